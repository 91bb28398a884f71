//! What only PostgreSQL has to keep: servers that start, claim and listen at the same time, connections that
//! break, settings that lose commits, partitions. Everything that both databases promise is in the
//! conformance suite.

mod world;

use std::{collections::HashSet, sync::Arc, time::Duration};

use hetuflow_core::{
    id::{EventId, InstanceId, JournalId, TaskId},
    status::Status,
    task::{Lease, Outcome},
};
use hetuflow_store::{
    Committed, Finish, Ingest, Ingested, LowWater, Offer, Options, Report, StoreError, open,
};
use sqlx::Connection;

use world::{Database, event, finish, hello, ingest, now, say_hello, server_url};

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_migrate_once() {
    let database = Database::create().await;
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let options = database.options("");
            tokio::spawn(async move { open(&options).await })
        })
        .collect();
    for start in starts {
        let store = start.await.expect("no panic").expect("every server starts");
        store.probe().await.expect("it commits");
        assert!(store.describe().starts_with("postgres "), "{}", store.describe());
        store.close().await;
    }
    let mut connection = database.connect().await;
    let count: i64 = sqlx::query_scalar("select count(*) from sched_migration")
        .fetch_one(&mut connection)
        .await
        .expect("a count");
    assert_eq!(count, 1);
    connection.close().await.expect("closed");
    database.drop().await;
}

#[tokio::test]
async fn a_database_that_loses_commits_is_refused() {
    let database = Database::create().await;
    let options = database.options("&options[synchronous_commit]=off");
    match open(&options).await {
        Err(StoreError::Unfit(text)) => assert!(text.contains("synchronous_commit = on"), "{text}"),
        Err(error) => panic!("wrong error: {error}"),
        Ok(_) => panic!("it must be refused"),
    }
    let missing = Options { url: server_url().replacen("/postgres?", "/nowhere?", 1), pool_size: 2 };
    let error = open(&missing).await.err().expect("there is no such database");
    assert!(matches!(error, StoreError::Unfit(_)), "{error:?}");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_taken_twice_by_many_servers() {
    let database = Database::create().await;
    let (one, other) = (database.open().await, database.open().await);
    let batch: Vec<Ingest> = (0..400).map(|_| ingest(None)).collect();
    one.ingest(&batch, &[]).await.expect("stored");
    let lane = one.waiting_lanes(&[]).await.expect("lanes")[0].id;

    let mut claimers = Vec::new();
    for n in 0..8 {
        let store = Arc::clone(if n % 2 == 0 { &one } else { &other });
        let slot = say_hello(&store, &hello(&format!("agent-{n}"), JournalId::at(now()), 1)).await;
        claimers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let claimed =
                    store.claim(lane, LowWater::START, &vec![slot.clone(); 7], now()).await.expect("a claim");
                let all = store.waiting_lanes(&[]).await.expect("lanes").is_empty();
                let ends: Vec<Finish> =
                    claimed.iter().map(|claimed| finish(claimed.lease, Outcome::exit(0))).collect();
                let reports = store.finish(&ends, now(), 0.0).await.expect("ended");
                assert!(reports.iter().all(|report| *report == Report::Recorded));
                taken.extend(claimed.into_iter().map(|claimed| claimed.task.id));
                if all {
                    return taken;
                }
            }
        }));
    }
    let mut taken = Vec::new();
    for claimer in claimers {
        taken.extend(claimer.await.expect("no panic"));
    }
    assert_eq!(taken.len(), 400);
    assert_eq!(taken.into_iter().collect::<HashSet<_>>().len(), 400);
    one.close().await;
    other.close().await;
    database.drop().await;
}

/// Whichever comes first: a claim for a session either ends before the hello, which then returns what was taken,
/// or takes nothing. In no order is a task left leased to a session that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_races_a_hello() {
    let database = Database::create().await;
    let store = database.open().await;
    let journal = JournalId::at(now());
    let mut slot = say_hello(&store, &hello("agent", journal, 1)).await;
    for epoch in 2..30 {
        store.ingest(&[ingest(None)], &[]).await.expect("stored");
        let lane = store.waiting_lanes(&[]).await.expect("lanes")[0].id;
        let (second, slots) = (Arc::clone(&store), [slot.clone()]);
        let claim = tokio::spawn(async move {
            second.claim(lane, LowWater::START, &slots, now()).await.expect("a claim")
        });
        slot = say_hello(&store, &hello("agent", journal, epoch)).await;
        let claimed = claim.await.expect("no panic");
        let agent = store.agent(&slot.agent_id).await.expect("the agent");
        assert_eq!(agent.running, 0, "the hello held nothing (claimed {})", claimed.len());
        let again = store.claim(lane, LowWater::START, &[slot.clone()], now()).await.expect("a claim");
        assert_eq!(again.len(), 1, "the task waits");
        let end = finish(again[0].lease, Outcome::exit(0));
        assert_eq!(store.finish(&[end], now(), 0.0).await.expect("ended"), [Report::Recorded]);
    }
    store.close().await;
    database.drop().await;
}

/// Whichever comes first: a batch whose task is leased to a session either ends before the hello, which then returns the
/// task, or finds the session gone and stores a task that waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_races_a_hello() {
    let database = Database::create().await;
    let store = database.open().await;
    let journal = JournalId::at(now());
    let mut slot = say_hello(&store, &hello("agent", journal, 1)).await;
    for epoch in 2..30 {
        let batch = [ingest(None)];
        let task_id = batch[0].tasks[0].id;
        let lease = Lease { task_id, instance_id: InstanceId::at(now()), fence: 1 };
        let (second, offers) = (Arc::clone(&store), [Offer { lease, slot: slot.clone() }]);
        let stored = tokio::spawn(async move { second.ingest(&batch, &offers).await.expect("stored") });
        slot = say_hello(&store, &hello("agent", journal, epoch)).await;
        let leased = stored.await.expect("no panic").leased;
        let task = store.task(task_id).await.expect("the task");
        assert_eq!((task.status, task.attempt), (Status::Pending, 0), "leased: {leased:?}");
    }
    store.close().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_on_many_servers_stores_one_event() {
    let database = Database::create().await;
    let servers = [database.open().await, database.open().await];
    let calls: Vec<_> = (0..16)
        .map(|n| {
            let store = Arc::clone(&servers[n % 2]);
            let batch = vec![ingest(Some("b")), ingest(Some("a")), ingest(Some("b"))];
            tokio::spawn(async move { store.ingest(&batch, &[]).await.expect("an answer").answers })
        })
        .collect();
    let (mut stored, mut firsts) = (0, HashSet::new());
    for call in calls {
        for answer in call.await.expect("no panic") {
            match answer {
                Ingested::Stored => stored += 1,
                Ingested::Duplicate { event_id, task_ids, .. } => {
                    assert_eq!(task_ids.len(), 1);
                    firsts.insert(event_id);
                }
            }
        }
    }
    assert_eq!((stored, firsts.len()), (2, 2));
    for store in servers {
        store.close().await;
    }
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_hears_of_tasks_also_after_its_connections_broke() {
    let database = Database::create().await;
    let (teller, listener) = (database.open().await, database.open().await);
    let mut changes = listener.task_changes();
    // The first change is the listener's own: it listens.
    wait(async { changes.wait_for(|count| *count > 0).await.map(drop) }).await.expect("the store is open");
    changes.mark_unchanged();
    teller.ingest(&[ingest(None)], &[]).await.expect("stored");
    hear(&mut changes).await;

    let mut connection = database.connect().await;
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&mut connection)
    .await
    .expect("the backends end");
    hear(&mut changes).await;
    // A connection that broke may show itself once.
    while let Err(error) = teller.ingest(&[ingest(None)], &[]).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    hear(&mut changes).await;
    teller.close().await;
    listener.close().await;
    connection.close().await.expect("closed");
    database.drop().await;
}

async fn hear(changes: &mut tokio::sync::watch::Receiver<u64>) {
    wait(changes.changed()).await.expect("the store is open");
}

async fn wait<T>(news: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), news).await.expect("a notification in time")
}

#[tokio::test]
async fn rows_go_to_their_day_and_are_found_there() {
    let database = Database::create().await;
    let store = database.open().await;
    let mut connection = database.connect().await;
    let today: jiff_sqlx::Timestamp =
        sqlx::query_scalar("select now()").fetch_one(&mut connection).await.expect("a time");
    let today = jiff_sqlx::Timestamp::to_jiff(today);
    let mut ingests = vec![ingest(None), ingest(None)];
    ingests[0].event.id = EventId::at(today);
    ingests[1].event.id = EventId::at("1999-01-01T00:00:00Z".parse().expect("a time"));
    let ids = [ingests[0].event.id, ingests[1].event.id];
    for ingest in &mut ingests {
        ingest.tasks[0].event_id = ingest.event.id;
    }
    store.ingest(&ingests, &[]).await.expect("stored");
    let homes: Vec<String> =
        sqlx::query_scalar("select tableoid::regclass::text from sched_event order by created_at desc")
            .fetch_all(&mut connection)
            .await
            .expect("the events");
    let day = today.strftime("sched_event_%Y_%m_%d").to_string();
    assert_eq!(homes, [day.as_str(), "sched_event_default"]);
    for id in ids {
        assert_eq!(store.event(id).await.expect("found").id, id);
    }
    store.close().await;
    connection.close().await.expect("closed");
    database.drop().await;
}

/// PostgreSQL's text and jsonb cannot hold a NUL; one payload with it must not fail its batch.
#[tokio::test]
async fn a_nul_in_a_payload_harms_nothing() {
    let database = Database::create().await;
    let store = database.open().await;
    let mut odd = ingest(Some("a\0b"));
    odd.event.subject = Some("x\0y".to_owned());
    odd.event.headers = vec![("x-odd".to_owned(), "\0".to_owned())];
    odd.tasks[0].command.as_mut().expect("a command").stdin = Some("1\x002".to_owned());
    let (event_id, task_id) = (odd.event.id, odd.tasks[0].id);
    assert_eq!(
        store.ingest(&[odd, ingest(None)], &[]).await.expect("stored"),
        Committed { answers: vec![Ingested::Stored, Ingested::Stored], leased: Vec::new() }
    );
    let event = store.event(event_id).await.expect("the event");
    assert_eq!(event.subject.as_deref(), Some("x\u{fffd}y"));
    assert_eq!(event.headers[0].1, "\0");
    let task = store.task(task_id).await.expect("the task");
    assert_eq!(task.status, Status::Pending);
    assert_eq!(task.command.expect("a command").stdin.as_deref(), Some("1\x002"));
    store.close().await;
    database.drop().await;
}

/// Whoever asks may go away at any point, as the session of an agent does when its connection breaks.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_transaction_behind() {
    let database = Database::create().await;
    let store = open(&Options { pool_size: 2, ..database.options("") }).await.expect("the store opens");
    let mut other = database.connect().await;
    let lease = Lease { task_id: TaskId::at(now()), instance_id: InstanceId::at(now()), fence: 1 };
    let ends = [finish(lease, Outcome::exit(1))];
    let mut finished = 0;
    for turns in 0.. {
        tokio::select! {
            biased;
            reports = store.finish(&ends, now(), 0.0) => {
                assert_eq!(reports.expect("an answer"), [Report::Fenced]);
                finished += 1;
            }
            () = given_up_after(turns) => {}
        }
        // As often as there are connections, and once more: one of them is that of the call.
        for _ in 0..3 {
            let event = event("kept");
            let id = event.id;
            let stored = store.ingest(&[Ingest { event, dedupe: None, tasks: Vec::new() }], &[]).await;
            assert_eq!(stored.expect("an answer").answers, [Ingested::Stored]);
            let seen: i64 = sqlx::query_scalar("select count(*) from sched_event where id = $1")
                .bind(id.uuid())
                .fetch_one(&mut other)
                .await
                .expect("a count");
            assert_eq!(
                seen, 1,
                "stored but not committed, after a call that was given up after {turns} turns"
            );
        }
        if finished == 5 {
            break;
        }
    }
    drop(other);
    store.close().await;
    database.drop().await;
}

async fn given_up_after(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}
