//! What only PostgreSQL has: partitions. They are made ahead, take over what the default partition holds of them, and
//! go as a whole once everything in them has ended.

use bytes::Bytes;
use hetuflow_core::{
    Clock,
    task::{Outcome, OutputChunk, Stream},
};
use hetuflow_store::{Dropped, Stock, Store};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::{
    database::{Db, on_postgres},
    leader::lead,
    world::{at, claim, claimed_by, finish, ingest, slot},
};

async fn run(connection: &mut PgConnection, statement: &str) {
    connection.execute(AssertSqlSafe(statement.to_owned())).await.expect(statement);
}

/// The partitions of the table that hold rows.
async fn homes(connection: &mut PgConnection, table: &str) -> Vec<String> {
    let statement = format!("select distinct tableoid::regclass::text from {table} order by 1");
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(connection).await.expect("an answer")
}

/// Days and weeks around the beginning of the story, as they were made when that was now.
async fn old_partitions(connection: &mut PgConnection) {
    for (table, first, last) in [
        ("sched_event", "2026-01-01", "2026-01-02"),
        ("sched_task", "2025-12-29", "2026-01-05"),
        ("sched_attempt", "2025-12-29", "2026-01-05"),
        ("sched_task_output", "2026-01-01", "2026-01-02"),
    ] {
        let statement = format!(
            "create table {table}_old partition of {table} for values from ('{first}Z') to ('{last}Z')"
        );
        run(connection, &statement).await;
    }
}

/// In the order in which the server drops.
async fn drop_old(store: &dyn Store) -> Vec<Dropped> {
    let leadership = lead(store).await;
    let mut steps = Vec::new();
    for stock in [Stock::Output, Stock::Tasks, Stock::Events] {
        let before = at(10 * 24 * 3600);
        steps.push(store.drop_before(leadership, stock, before, 100).await.expect("a step"));
    }
    steps
}

#[tokio::test]
async fn the_default_partition_gives_up_what_a_new_one_takes() {
    on_postgres(async |db: &Db| {
        let store = &*db.store;
        let mut connection = db.connect().await;
        let made = "select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = any(array['sched_event', 'sched_task', 'sched_attempt', 'sched_task_output']::regclass[])
            and c.relname not like '%default'";
        let made: Vec<String> = sqlx::query_scalar(made).fetch_all(&mut connection).await.expect("partitions");
        assert_eq!(made.len(), 4 + 3 + 3 + 4, "{made:?}");
        // As for a server that slept until all of them were past.
        run(&mut connection, &format!("drop table {}", made.join(", "))).await;

        let now = Clock::system().now();
        let slots = [slot(store, "web-1").await];
        let (first, second) = (ingest(now, |_| ()), ingest(now, |_| ()));
        let ids = [first.event.id, second.event.id];
        store.ingest(&[first, second], &[]).await.expect("stored all the same");
        let claimed = claim(store, &slots, now).await.remove(0);
        assert_eq!(homes(&mut connection, "sched_event").await, ["sched_event_default"]);

        let leadership = lead(store).await;
        assert_eq!(store.prepare_partitions(leadership).await.expect("made"), 0);
        let day = now.strftime("sched_event_%Y_%m_%d").to_string();
        assert_eq!(homes(&mut connection, "sched_event").await, [day]);
        assert_eq!(homes(&mut connection, "sched_task").await.len(), 1);
        for id in ids {
            assert_eq!(store.event(id).await.expect("found").id, id);
        }
        let reports = store.finish(&[finish(claimed.lease, Outcome::exit(0))], now, 0.0).await;
        assert_eq!(reports.expect("an answer"), [hetuflow_store::Report::Recorded]);
        assert_eq!(claim(store, &slots, now).await.len(), 1, "the other one waits");
    })
    .await;
}

#[tokio::test]
async fn a_partition_goes_as_a_whole_once_everything_in_it_has_ended() {
    on_postgres(async |db: &Db| {
        let store = &*db.store;
        let mut connection = db.connect().await;
        old_partitions(&mut connection).await;
        let claimed = claimed_by(store, &slot(store, "web-1").await, |_| ()).await;
        let instance_id = claimed.lease.instance_id;
        let data = Bytes::from_static(b"x");
        let chunk = OutputChunk { instance_id, seq: 0, stream: Stream::Stdout, data };
        store.append_output(std::slice::from_ref(&chunk)).await.expect("stored");
        assert_eq!(homes(&mut connection, "sched_task_output").await, ["sched_task_output_old"]);
        assert_eq!(store.output(instance_id, 0, 10).await.expect("an answer"), [chunk]);

        let held = Dropped { held: 1, ..Dropped::default() };
        assert_eq!(drop_old(store).await, [held, held, held]);
        store.event(claimed.task.event_id).await.expect("its event stays");

        store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
        let gone = |partitions| Dropped { partitions, more: true, ..Dropped::default() };
        assert_eq!(drop_old(store).await, [gone(1), gone(2), gone(1)]);
        assert_eq!(drop_old(store).await, [Dropped::default(); 3]);
        for table in ["sched_event", "sched_task", "sched_attempt", "sched_task_output"] {
            assert_eq!(homes(&mut connection, table).await, Vec::<String>::new());
        }
        store.event(claimed.task.event_id).await.expect_err("dropped");
    })
    .await;
}

#[tokio::test]
async fn a_partition_is_left_to_whoever_uses_it() {
    on_postgres(async |db: &Db| {
        let mut connection = db.connect().await;
        old_partitions(&mut connection).await;
        run(&mut connection, "begin").await;
        run(&mut connection, "select count(*) from sched_event").await;
        let steps = drop_old(&*db.store).await;
        assert_eq!(steps.iter().map(|step| step.partitions).collect::<Vec<_>>(), [1, 2, 0]);
        run(&mut connection, "rollback").await;
        assert_eq!(drop_old(&*db.store).await[2].partitions, 1);
    })
    .await;
}
