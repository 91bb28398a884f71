//! Promises of `EventStore`.

use std::{collections::BTreeMap, task::Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use hetuflow_core::{
    event::{Event, Verdict},
    id::{EventId, InstanceId, Namespace, StatusToken},
    status::Status,
    task::{EndReason, Lease, NewTask, Outcome},
};
use hetuflow_store::{EventFilter, Ingest, Ingested, Offer, Page, Report, Slot, StoreError, TaskFilter};

use crate::{
    database::Db,
    leader::lead,
    world::{
        Visitor, agent_id, at, claim, finish, ingest, instance, keyed, lanes, slot, take_in, task, task_of,
    },
};

pub(crate) fn duplicate_of(first: &Ingest) -> Ingested {
    Ingested::Duplicate {
        event_id: first.event.id,
        task_ids: first.tasks.iter().map(|task| task.id).collect(),
        parts: Vec::new(),
    }
}

pub(crate) async fn stored_events(db: &Db) -> Vec<Event> {
    db.store.events(&EventFilter::default(), Page::default()).await.expect("a list")
}

pub(crate) async fn an_event_reads_back_as_it_was_stored(db: &Db) {
    let mut ingest = ingest(at(0), |task| task.priority = -3);
    ingest.event.replay_of = Some(EventId::at(at(0)));
    assert_eq!(take_in(&*db.store, vec![ingest.clone()]).await.expect("stored"), [Ingested::Stored]);
    assert_eq!(db.store.event(ingest.event.id).await.expect("the event"), ingest.event);
    let NewTask { id, policy, command, lane, run_at, .. } = ingest.tasks[0].clone();
    let stored = task(&*db.store, id).await;
    assert_eq!(
        (stored.policy, stored.command, stored.lane, stored.run_at),
        (policy, command.ok(), lane, run_at)
    );
    assert_eq!((stored.status, stored.attempt, stored.fence, stored.priority), (Status::Pending, 0, 0, -3));
    assert_eq!((stored.event_id, stored.created_at), (ingest.event.id, at(0)));
}

pub(crate) async fn every_verdict_and_every_body_reads_back(db: &Db) {
    let reason = || "why".to_owned();
    let verdicts = [
        Verdict::Accepted,
        Verdict::Malformed { reason: reason() },
        Verdict::Rejected { reason: reason() },
        Verdict::Ping { reason: reason() },
        Verdict::Unverified { reason: reason() },
    ];
    let noise: Vec<u8> = (0..512).flat_map(|_| *uuid::Uuid::new_v4().as_bytes()).collect();
    let bodies = [Vec::new(), vec![0; 100_000], noise, b"{\"a\": 1}".repeat(1000), b"{}".to_vec()];
    let mut batch: Vec<Ingest> = Vec::new();
    for (verdict, body) in verdicts.into_iter().zip(bodies) {
        let mut ingest = Ingest { tasks: Vec::new(), ..ingest(at(0), |_| ()) };
        (ingest.event.verdict, ingest.event.body) = (verdict, body.into());
        batch.push(ingest);
    }
    take_in(&*db.store, batch.clone()).await.expect("stored");
    for Ingest { event, .. } in batch {
        assert_eq!(db.store.event(event.id).await.expect("the event"), event);
    }
}

pub(crate) async fn an_event_is_found_by_its_token(db: &Db) {
    let mut batch: Vec<Ingest> = (0..3).map(|_| ingest(at(0), |_| ())).collect();
    for ingest in &mut batch[..2] {
        ingest.event.status_token = Some(StatusToken::at(at(0)));
    }
    take_in(&*db.store, batch.clone()).await.expect("stored");
    for Ingest { event, .. } in &batch[..2] {
        let found = db.store.event_of(event.status_token.expect("a token")).await.expect("the event");
        assert_eq!(found, Event { body: Bytes::new(), ..event.clone() });
    }
    for unknown in [StatusToken::at(at(0)), StatusToken::from_uuid(uuid::Uuid::new_v4())] {
        assert!(matches!(db.store.event_of(unknown).await, Err(StoreError::NotFound)));
    }
}

pub(crate) async fn an_unknown_event_is_not_found(db: &Db) {
    let error = db.store.event(EventId::at(at(0))).await.expect_err("no such event");
    assert!(matches!(error, StoreError::NotFound), "{error:?}");
}

pub(crate) async fn a_batch_is_stored_whole_or_not_at_all(db: &Db) {
    let first = keyed("1", at(0));
    let mut second = keyed("2", at(0));
    second.tasks[0].id = first.tasks[0].id;
    take_in(&*db.store, vec![first.clone(), second]).await.expect_err("one task id twice");
    assert_eq!(stored_events(db).await, []);
    assert_eq!(take_in(&*db.store, vec![first]).await.expect("the key is free"), [Ingested::Stored]);
}

pub(crate) async fn answers_come_in_the_order_of_the_batch(db: &Db) {
    let first = keyed("1", at(0));
    take_in(&*db.store, vec![first.clone()]).await.expect("stored");
    let batch = vec![keyed("0", at(1)), keyed("1", at(1)), keyed("2", at(1))];
    let answers = take_in(&*db.store, batch).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, duplicate_of(&first), Ingested::Stored]);
}

pub(crate) async fn a_known_key_yields_the_first_ids(db: &Db) {
    let mut first = keyed("1", at(0));
    first.tasks.push(task_of(&first.event));
    first.tasks.sort_by_key(|task| task.id);
    take_in(&*db.store, vec![first.clone()]).await.expect("stored");
    let again = keyed("1", at(59));
    assert_eq!(take_in(&*db.store, vec![again]).await.expect("known"), [duplicate_of(&first)]);
    assert_eq!(stored_events(db).await.len(), 1);
    assert_eq!(db.store.tasks(&TaskFilter::default(), Page::default()).await.expect("a list").len(), 2);
}

pub(crate) async fn a_key_twice_in_a_batch_stores_once(db: &Db) {
    let batch = vec![keyed("1", at(0)), keyed("1", at(0)), keyed("1", at(0))];
    let answers = take_in(&*db.store, batch.clone()).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, duplicate_of(&batch[0]), duplicate_of(&batch[0])]);
}

pub(crate) async fn an_expired_key_is_free_again(db: &Db) {
    let (first, later, third) = (keyed("1", at(0)), keyed("1", at(60)), keyed("1", at(61)));
    take_in(&*db.store, vec![first]).await.expect("stored");
    assert_eq!(take_in(&*db.store, vec![later.clone()]).await.expect("stored"), [Ingested::Stored]);
    assert_eq!(take_in(&*db.store, vec![third]).await.expect("known"), [duplicate_of(&later)]);
}

pub(crate) async fn a_key_is_one_of_its_scope_and_namespace(db: &Db) {
    let mut other_scope = keyed("1", at(0));
    "/hooks/other".clone_into(&mut other_scope.dedupe.as_mut().expect("a key").scope);
    let mut other_namespace = keyed("1", at(0));
    other_namespace.event.namespace = Namespace::new("team-b").expect("a name");
    let answers =
        take_in(&*db.store, vec![keyed("1", at(0)), other_scope, other_namespace]).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, Ingested::Stored, Ingested::Stored]);
}

/// More than goes into one statement.
pub(crate) async fn a_large_batch_is_stored_like_a_small_one(db: &Db) {
    let store = &*db.store;
    let mut firsts: BTreeMap<usize, Ingest> =
        [0, 255, 256, 599].map(|n| (n, keyed(&n.to_string(), at(30)))).into();
    firsts.insert(511, ingest(at(70), |_| ()));
    let expired = [1, 257].map(|n| keyed(&n.to_string(), at(0)));
    take_in(store, firsts.values().cloned().chain(expired).collect()).await.expect("stored");
    let mut batch: Vec<Ingest> = (0..600).map(|n| keyed(&n.to_string(), at(70))).collect();
    // The same key twice, and an event that is there.
    batch[300] = keyed("2", at(70));
    batch[511] = firsts[&511].clone();
    firsts.insert(300, batch[2].clone());
    let answers = take_in(store, batch.clone()).await.expect("stored");
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, firsts.get(&n).map_or(Ingested::Stored, duplicate_of), "event {n}");
    }
    let answers = take_in(store, batch.clone()).await.expect("known");
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, duplicate_of(firsts.get(&n).unwrap_or(&batch[n])), "event {n}");
    }
}

/// The first answer may have been lost, and the caller tries again.
pub(crate) async fn the_same_event_again_yields_itself(db: &Db) {
    for first in [keyed("1", at(0)), ingest(at(0), |_| ())] {
        take_in(&*db.store, vec![first.clone()]).await.expect("stored");
        let answers = take_in(&*db.store, vec![first.clone()]).await.expect("known");
        assert_eq!(answers, [duplicate_of(&first)]);
    }
}

pub(crate) async fn ten_ingests_of_one_key_make_one_event(db: &Db) {
    let batch: Vec<Ingest> = (0..10).map(|_| keyed("1", at(0))).collect();
    let answers = join_all(batch.iter().map(|ingest| take_in(&*db.store, vec![ingest.clone()]))).await;
    let answers: Vec<Ingested> = answers.into_iter().flat_map(|answer| answer.expect("an answer")).collect();
    let first = answers.iter().position(|answer| *answer == Ingested::Stored).expect("one is the first");
    for (n, answer) in answers.iter().enumerate() {
        assert!(n == first || *answer == duplicate_of(&batch[first]), "answer {n} is {answer:?}");
    }
    assert_eq!(stored_events(db).await.len(), 1);
}

pub(crate) async fn a_task_that_cannot_be_rendered_has_failed(db: &Db) {
    let ingest = ingest(at(7), |task| task.command = Err("no value for body.ref".to_owned()));
    take_in(&*db.store, vec![ingest.clone()]).await.expect("stored");
    let task = task(&*db.store, ingest.tasks[0].id).await;
    let outcome = task.outcome.expect("an outcome");
    assert_eq!((task.status, outcome.reason), (Status::Failed, EndReason::Render));
    assert_eq!((task.finished_at, task.command), (Some(at(7)), None));
    assert_eq!(outcome.message.as_deref(), Some("no value for body.ref"));
    assert_eq!(lanes(&*db.store, at(100)).await, []);
}

pub(crate) async fn ingest_wakes_listeners(db: &Db) {
    let mut changes = db.store.task_changes();
    changes.mark_unchanged();
    take_in(&*db.store, vec![ingest(at(0), |_| ())]).await.expect("stored");
    changes.changed().await.expect("the store lives");
}

/// The first lease of an event's only task, for this slot.
fn offer(ingest: &Ingest, slot: &Slot) -> Offer {
    let lease = Lease { task_id: ingest.tasks[0].id, instance_id: InstanceId::at(at(1)), fence: 1 };
    Offer { lease, slot: slot.clone() }
}

pub(crate) async fn a_task_with_an_offer_is_leased_as_it_is_stored(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let batch = [ingest(at(0), |_| ()), ingest(at(0), |_| ())];
    let offer = offer(&batch[1], &slot);
    let committed = store.ingest(&batch, std::slice::from_ref(&offer)).await.expect("stored");
    assert_eq!(committed.answers, [Ingested::Stored, Ingested::Stored]);
    assert_eq!(committed.leased, [offer.lease]);
    assert_eq!(task(store, batch[0].tasks[0].id).await.status, Status::Pending);
    let leased = task(store, offer.lease.task_id).await;
    assert_eq!((leased.status, leased.attempt, leased.fence), (Status::Locked, 1, 1));
    let attempt = instance(store, offer.lease).await;
    assert_eq!(
        (attempt.task_id, attempt.agent_id, attempt.job_id),
        (leased.id, slot.agent_id, leased.job_id)
    );
    assert_eq!((attempt.status, attempt.attempt, attempt.fence), (Status::Locked, 1, 1));
    let end = finish(offer.lease, Outcome::exit(0));
    assert_eq!(store.finish(&[end], at(3), 0.0).await.expect("an answer"), [Report::Recorded]);
}

pub(crate) async fn an_offer_of_another_session_leaves_the_task_waiting(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    let old = visitor.hello(store, &[]).await;
    let new = visitor.hello(store, &[]).await;
    let stranger = Slot { agent_id: agent_id("nobody"), session_epoch: 1 };
    // The first event of a lane is stored in another way than those after it.
    for slot in [visitor.slot(&old), stranger, visitor.slot(&old)] {
        let batch = [ingest(at(0), |_| ())];
        let mut changes = store.task_changes();
        changes.mark_unchanged();
        let committed = store.ingest(&batch, &[offer(&batch[0], &slot)]).await.expect("stored");
        assert_eq!((committed.answers, committed.leased), (vec![Ingested::Stored], Vec::new()));
        changes.changed().await.expect("listeners are told");
        let task = task(store, batch[0].tasks[0].id).await;
        assert_eq!((task.status, task.attempt, task.fence), (Status::Pending, 0, 0));
    }
    assert_eq!(claim(store, &vec![visitor.slot(&new); 3], at(1)).await.len(), 3);
}

pub(crate) async fn a_duplicate_takes_no_offer(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = keyed("1", at(0));
    take_in(store, vec![first.clone()]).await.expect("stored");
    let again = [keyed("1", at(1))];
    let committed = store.ingest(&again, &[offer(&again[0], &slot)]).await.expect("known");
    assert_eq!((committed.answers, committed.leased), (vec![duplicate_of(&first)], Vec::new()));
    let error = store.task(again[0].tasks[0].id).await.expect_err("nothing of it is stored");
    assert!(matches!(error, StoreError::NotFound), "{error:?}");
}

pub(crate) async fn a_task_that_cannot_be_rendered_takes_no_offer(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let batch = [ingest(at(0), |task| task.command = Err("no ref".to_owned()))];
    let committed = store.ingest(&batch, &[offer(&batch[0], &slot)]).await.expect("stored");
    assert_eq!(committed.leased, []);
    assert_eq!(task(store, batch[0].tasks[0].id).await.status, Status::Failed);
}

pub(crate) async fn events_are_found_by_their_ids(db: &Db) {
    let store = &*db.store;
    let batch = vec![ingest(at(0), |_| ()), ingest(at(1), |_| ()), ingest(at(2), |_| ())];
    take_in(store, batch.clone()).await.expect("stored");
    let wanted = [batch[2].event.id, EventId::at(at(9)), batch[0].event.id];
    let found = store.events_by_id(&wanted, 1 << 20).await.expect("events");
    assert_eq!(found, [batch[0].event.clone(), batch[2].event.clone()]);
    assert_eq!(store.events_by_id(&[], 1 << 20).await.expect("events"), []);
}

pub(crate) async fn events_come_as_far_as_their_bodies_have_room(db: &Db) {
    let store = &*db.store;
    let sized = |second: i64, size: usize| {
        let mut ingest = ingest(at(second), |_| ());
        ingest.event.body = vec![b'x'; size].into();
        ingest
    };
    let batch = vec![sized(0, 0), sized(1, 10), sized(2, 10), sized(3, 1)];
    take_in(store, batch.clone()).await.expect("stored");
    let ids: Vec<EventId> = batch.iter().rev().map(|ingest| ingest.event.id).collect();
    for (bytes, expected) in [(0, 2), (10, 2), (19, 2), (20, 3), (21, 4)] {
        let found = store.events_by_id(&ids, bytes).await.expect("events");
        let wanted: Vec<_> = batch[..expected].iter().map(|ingest| ingest.event.clone()).collect();
        assert_eq!(found, wanted, "{bytes}");
    }
    let found = store.events_by_id(&ids[..2], 5).await.expect("events");
    assert_eq!(found, [batch[2].event.clone()], "the first, however large");
    let found = store.events_by_id(&[ids[1], ids[1], ids[1]], 15).await.expect("events");
    assert_eq!(found, [batch[2].event.clone()], "the tasks of one event share it");
    let found = store.events_by_id(&[ids[1], ids[1]], 5).await.expect("events");
    assert_eq!(found, [batch[2].event.clone()], "however large");
}

pub(crate) async fn expired_keys_are_forgotten(db: &Db) {
    let batch = vec![keyed("1", at(0)), keyed("2", at(1)), keyed("3", at(30))];
    take_in(&*db.store, batch.clone()).await.expect("stored");
    let leadership = lead(&*db.store).await;
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 1).await.expect("one"), 1);
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 10).await.expect("the other"), 1);
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 10).await.expect("none"), 0);
    assert_eq!(
        take_in(&*db.store, vec![keyed("3", at(62))]).await.expect("known"),
        [duplicate_of(&batch[2])]
    );
}

pub(crate) async fn what_was_acknowledged_is_there_after_reopening(db: &Db) {
    let first = keyed("1", at(0));
    take_in(&*db.store, vec![first.clone()]).await.expect("stored");
    db.store.close().await;
    let reopened = db.another().await;
    assert_eq!(reopened.event(first.event.id).await.expect("the event"), first.event);
    assert_eq!(take_in(&*reopened, vec![keyed("1", at(1))]).await.expect("known"), [duplicate_of(&first)]);
    assert_eq!(lanes(&*reopened, at(0)).await.len(), 1);
    reopened.close().await;
}

/// A caller that goes away at any moment leaves the whole batch or nothing, and a store that goes on.
pub(crate) async fn a_dropped_call_leaves_nothing_half_done(db: &Db) {
    let mut polls = 0;
    let mut cut = false;
    for turn in 0..1000 {
        let batch = vec![keyed(&format!("{turn}-a"), at(turn)), keyed(&format!("{turn}-b"), at(turn))];
        let answered = poll_times(take_in(&*db.store, batch.clone()), polls).await;
        // What the database still had in flight is decided by now: the same keys wait for it.
        let again = take_in(&*db.store, batch.clone()).await.expect("a store that goes on");
        let first = batch.iter().map(duplicate_of).collect::<Vec<_>>();
        assert!(
            again == first || again == [Ingested::Stored, Ingested::Stored],
            "after {polls} polls: {again:?}"
        );
        for ingest in &batch {
            let tasks = ingest.tasks.iter().map(|task| db.store.task(task.id));
            assert!(join_all(tasks).await.iter().all(Result::is_ok));
        }
        if answered && cut {
            return;
        }
        // On a busy machine a call may be done when it is looked at for the first time: then again with one look.
        if !answered {
            cut |= polls > 0;
            polls += 1;
        }
    }
    panic!("after {polls} polls no call has been done, or each one at the first");
}

/// Polls a future so many times, whenever it asks to be, and drops it. Says whether it was done.
async fn poll_times<T>(future: impl Future<Output = T>, polls: i64) -> bool {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}
