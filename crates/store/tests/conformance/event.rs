//! Promises of `EventStore`.

use std::task::Poll;

use futures_util::future::join_all;
use hetuflow_core::{
    event::Event,
    id::{EventId, Namespace},
    status::Status,
    task::{EndReason, NewTask},
};
use hetuflow_store::{EventFilter, Ingest, Ingested, Page, StoreError, TaskFilter};

use crate::{
    database::Db,
    leader::lead,
    world::{at, ingest, keyed, task, task_of},
};

fn duplicate_of(first: &Ingest) -> Ingested {
    Ingested::Duplicate {
        event_id: first.event.id,
        task_ids: first.tasks.iter().map(|task| task.id).collect(),
    }
}

async fn stored_events(db: &Db) -> Vec<Event> {
    db.store.events(&EventFilter::default(), Page::default()).await.expect("a list")
}

pub(crate) async fn an_event_reads_back_as_it_was_stored(db: &Db) {
    let ingest = ingest(at(0), |task| task.priority = -3);
    assert_eq!(db.store.ingest(vec![ingest.clone()]).await.expect("stored"), [Ingested::Stored]);
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

pub(crate) async fn an_unknown_event_is_not_found(db: &Db) {
    let error = db.store.event(EventId::at(at(0))).await.expect_err("no such event");
    assert!(matches!(error, StoreError::NotFound), "{error:?}");
}

pub(crate) async fn a_batch_is_stored_whole_or_not_at_all(db: &Db) {
    let first = keyed("1", at(0));
    let mut second = keyed("2", at(0));
    second.tasks[0].id = first.tasks[0].id;
    db.store.ingest(vec![first.clone(), second]).await.expect_err("one task id twice");
    assert_eq!(stored_events(db).await, []);
    assert_eq!(db.store.ingest(vec![first]).await.expect("the key is free"), [Ingested::Stored]);
}

pub(crate) async fn answers_come_in_the_order_of_the_batch(db: &Db) {
    let first = keyed("1", at(0));
    db.store.ingest(vec![first.clone()]).await.expect("stored");
    let batch = vec![keyed("0", at(1)), keyed("1", at(1)), keyed("2", at(1))];
    let answers = db.store.ingest(batch).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, duplicate_of(&first), Ingested::Stored]);
}

pub(crate) async fn a_known_key_yields_the_first_ids(db: &Db) {
    let mut first = keyed("1", at(0));
    first.tasks.push(task_of(&first.event));
    first.tasks.sort_by_key(|task| task.id);
    db.store.ingest(vec![first.clone()]).await.expect("stored");
    let again = keyed("1", at(59));
    assert_eq!(db.store.ingest(vec![again]).await.expect("known"), [duplicate_of(&first)]);
    assert_eq!(stored_events(db).await.len(), 1);
    assert_eq!(db.store.tasks(&TaskFilter::default(), Page::default()).await.expect("a list").len(), 2);
}

pub(crate) async fn a_key_twice_in_a_batch_stores_once(db: &Db) {
    let batch = vec![keyed("1", at(0)), keyed("1", at(0)), keyed("1", at(0))];
    let answers = db.store.ingest(batch.clone()).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, duplicate_of(&batch[0]), duplicate_of(&batch[0])]);
}

pub(crate) async fn an_expired_key_is_free_again(db: &Db) {
    let (first, later, third) = (keyed("1", at(0)), keyed("1", at(60)), keyed("1", at(61)));
    db.store.ingest(vec![first]).await.expect("stored");
    assert_eq!(db.store.ingest(vec![later.clone()]).await.expect("stored"), [Ingested::Stored]);
    assert_eq!(db.store.ingest(vec![third]).await.expect("known"), [duplicate_of(&later)]);
}

pub(crate) async fn a_key_is_one_of_its_scope_and_namespace(db: &Db) {
    let mut other_scope = keyed("1", at(0));
    "/hooks/other".clone_into(&mut other_scope.dedupe.as_mut().expect("a key").scope);
    let mut other_namespace = keyed("1", at(0));
    other_namespace.event.namespace = Namespace::new("team-b").expect("a name");
    let answers =
        db.store.ingest(vec![keyed("1", at(0)), other_scope, other_namespace]).await.expect("stored");
    assert_eq!(answers, [Ingested::Stored, Ingested::Stored, Ingested::Stored]);
}

/// The first answer may have been lost, and the caller tries again.
pub(crate) async fn the_same_event_again_yields_itself(db: &Db) {
    for first in [keyed("1", at(0)), ingest(at(0), |_| ())] {
        db.store.ingest(vec![first.clone()]).await.expect("stored");
        let answers = db.store.ingest(vec![first.clone()]).await.expect("known");
        assert_eq!(answers, [duplicate_of(&first)]);
    }
}

pub(crate) async fn ten_ingests_of_one_key_make_one_event(db: &Db) {
    let batch: Vec<Ingest> = (0..10).map(|_| keyed("1", at(0))).collect();
    let answers = join_all(batch.iter().map(|ingest| db.store.ingest(vec![ingest.clone()]))).await;
    let answers: Vec<Ingested> = answers.into_iter().flat_map(|answer| answer.expect("an answer")).collect();
    let first = answers.iter().position(|answer| *answer == Ingested::Stored).expect("one is the first");
    for (n, answer) in answers.iter().enumerate() {
        assert!(n == first || *answer == duplicate_of(&batch[first]), "answer {n} is {answer:?}");
    }
    assert_eq!(stored_events(db).await.len(), 1);
}

pub(crate) async fn a_task_that_cannot_be_rendered_has_failed(db: &Db) {
    let ingest = ingest(at(7), |task| task.command = Err("no value for body.ref".to_owned()));
    db.store.ingest(vec![ingest.clone()]).await.expect("stored");
    let task = task(&*db.store, ingest.tasks[0].id).await;
    let outcome = task.outcome.expect("an outcome");
    assert_eq!((task.status, outcome.reason), (Status::Failed, EndReason::Render));
    assert_eq!((task.finished_at, task.command), (Some(at(7)), None));
    assert_eq!(outcome.message.as_deref(), Some("no value for body.ref"));
    assert_eq!(db.store.waiting_lanes(at(100)).await.expect("lanes"), []);
}

pub(crate) async fn ingest_wakes_listeners(db: &Db) {
    let mut changes = db.store.task_changes();
    changes.mark_unchanged();
    db.store.ingest(vec![ingest(at(0), |_| ())]).await.expect("stored");
    changes.changed().await.expect("the store lives");
}

pub(crate) async fn expired_keys_are_forgotten(db: &Db) {
    let batch = vec![keyed("1", at(0)), keyed("2", at(1)), keyed("3", at(30))];
    db.store.ingest(batch.clone()).await.expect("stored");
    let leadership = lead(&*db.store).await;
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 1).await.expect("one"), 1);
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 10).await.expect("the other"), 1);
    assert_eq!(db.store.forget_expired_keys(leadership, at(61), 10).await.expect("none"), 0);
    assert_eq!(db.store.ingest(vec![keyed("3", at(62))]).await.expect("known"), [duplicate_of(&batch[2])]);
}

pub(crate) async fn what_was_acknowledged_is_there_after_reopening(db: &Db) {
    let first = keyed("1", at(0));
    db.store.ingest(vec![first.clone()]).await.expect("stored");
    db.store.close().await;
    let reopened = db.another().await;
    assert_eq!(reopened.event(first.event.id).await.expect("the event"), first.event);
    assert_eq!(reopened.ingest(vec![keyed("1", at(1))]).await.expect("known"), [duplicate_of(&first)]);
    assert_eq!(reopened.waiting_lanes(at(0)).await.expect("lanes").len(), 1);
    reopened.close().await;
}

/// A caller that goes away at any moment leaves the whole batch or nothing, and a store that goes on.
pub(crate) async fn a_dropped_call_leaves_nothing_half_done(db: &Db) {
    for polls in 0..1000 {
        let batch = vec![keyed(&format!("{polls}-a"), at(polls)), keyed(&format!("{polls}-b"), at(polls))];
        let answered = poll_times(db.store.ingest(batch.clone()), polls).await;
        // What the database still had in flight is decided by now: the same keys wait for it.
        let again = db.store.ingest(batch.clone()).await.expect("a store that goes on");
        let first = batch.iter().map(duplicate_of).collect::<Vec<_>>();
        assert!(
            again == first || again == [Ingested::Stored, Ingested::Stored],
            "after {polls} polls: {again:?}"
        );
        for ingest in &batch {
            let tasks = ingest.tasks.iter().map(|task| db.store.task(task.id));
            assert!(join_all(tasks).await.iter().all(Result::is_ok));
        }
        if answered {
            assert!(polls > 1, "the call was cut before it was done");
            return;
        }
    }
    panic!("the store does not answer any more");
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
