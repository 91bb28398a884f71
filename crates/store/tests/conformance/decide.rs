//! Promises about what a person decides: cancel and retry.

use hetuflow_core::{
    id::TaskId,
    retry::OnLost,
    status::Status,
    task::{EndReason, Outcome},
};
use hetuflow_store::{Cancelled, StoreError};

use crate::{
    database::Db,
    world::{Visitor, at, claim, claimed, claimed_by, finish, lanes, policy, slot, stored, task},
};

fn conflict<T: std::fmt::Debug>(answer: Result<T, StoreError>, expected: &str) {
    match answer {
        Err(StoreError::Conflict(text)) => assert!(text.contains(expected), "{text}"),
        other => panic!("wanted a conflict, got {other:?}"),
    }
}

pub(crate) async fn a_waiting_task_is_cancelled_at_once(db: &Db) {
    let store = &*db.store;
    let id = stored(store, at(0), |_| ()).await;
    assert_eq!(store.cancel(id, at(5)).await.expect("cancelled"), Cancelled::Now);
    let task = task(store, id).await;
    assert_eq!((task.status, task.finished_at), (Status::Cancelled, Some(at(5))));
    assert_eq!(task.outcome.map(|outcome| outcome.reason), Some(EndReason::Cancelled));
    assert_eq!(lanes(store, at(10)).await, []);
}

pub(crate) async fn a_held_task_is_asked_to_end(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    let asked = Cancelled::Asked { agent_id: claimed.agent_id.clone(), lease: claimed.lease };
    assert_eq!(store.cancel(claimed.task.id, at(2)).await.expect("asked"), asked);
    changes.changed().await.expect("listeners are told");
    assert_eq!(store.cancel(claimed.task.id, at(3)).await.expect("asked again"), asked);
    let task = task(store, claimed.task.id).await;
    assert_eq!((task.status, task.cancel_requested), (Status::Locked, true));
}

pub(crate) async fn an_ended_task_is_not_cancelled(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    conflict(store.cancel(claimed.task.id, at(4)).await, "succeeded");
}

pub(crate) async fn a_dead_task_is_given_up_and_keeps_how_it_ended(db: &Db) {
    let store = &*db.store;
    for (outcome, dead) in
        [(Outcome::exit(3), Status::Failed), (Outcome::because(EndReason::Lost, "gone"), Status::Lost)]
    {
        let claimed = claimed(store, |task| task.policy.on_lost = OnLost::Hold).await;
        store.finish(&[finish(claimed.lease, outcome.clone())], at(3), 0.0).await.expect("ended");
        assert_eq!(task(store, claimed.task.id).await.status, dead);
        assert_eq!(store.cancel(claimed.task.id, at(9)).await.expect("given up"), Cancelled::Now);
        let task = task(store, claimed.task.id).await;
        assert_eq!((task.status, task.finished_at), (Status::Cancelled, Some(at(3))));
        assert_eq!(task.outcome.map(|was| was.reason), Some(outcome.reason));
        conflict(store.cancel(claimed.task.id, at(10)).await, "cancelled");
        store.retry(claimed.task.id, at(11)).await.expect("runs again all the same");
    }
}

pub(crate) async fn cancel_requests_name_connected_agents_only(db: &Db) {
    let store = &*db.store;
    let mut away = Visitor::new("away");
    let session = away.hello(store, &[]).await;
    let unseen = claimed_by(store, &away.slot(&session), |_| ()).await;
    let here = claimed_by(store, &slot(store, "here").await, |_| ()).await;
    let ended = claimed_by(store, &slot(store, "ended").await, |_| ()).await;
    for claimed in [&unseen, &here, &ended] {
        store.cancel(claimed.task.id, at(2)).await.expect("asked");
    }
    store.finish(&[finish(ended.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    store.close_session(&away.hello.agent_id, session.epoch).await.expect("closed");
    assert_eq!(store.cancel_requests().await.expect("requests"), [(here.agent_id, here.lease)]);
}

pub(crate) async fn an_ended_task_runs_again_when_asked(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    store.cancel(claimed.task.id, at(2)).await.expect("asked");
    store.finish(&[finish(claimed.lease, Outcome::exit(1))], at(3), 0.0).await.expect("ended");
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    store.retry(claimed.task.id, at(50)).await.expect("queued again");
    changes.changed().await.expect("listeners are told");
    let task = task(store, claimed.task.id).await;
    assert_eq!((task.status, task.run_at, task.finished_at), (Status::Pending, at(50), None));
    assert_eq!((task.outcome, task.cancel_requested), (None, false));
}

pub(crate) async fn attempts_are_counted_on_after_a_retry(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = claimed_by(store, &slot, |task| task.policy = policy(0, OnLost::Hold)).await;
    store.finish(&[finish(first.lease, Outcome::exit(1))], at(3), 0.0).await.expect("ended");
    store.retry(first.task.id, at(50)).await.expect("queued again");
    let second = claim(store, &[slot], at(50)).await.remove(0);
    assert_eq!((second.task.attempt, second.lease.fence), (2, 2));
}

pub(crate) async fn a_task_that_has_not_ended_is_not_retried(db: &Db) {
    let store = &*db.store;
    let waiting = stored(store, at(50), |_| ()).await;
    conflict(store.retry(waiting, at(4)).await, "pending");
    let held = claimed(store, |_| ()).await;
    conflict(store.retry(held.task.id, at(4)).await, "locked");
}

pub(crate) async fn a_task_without_a_command_is_not_retried(db: &Db) {
    let store = &*db.store;
    let id = stored(store, at(0), |task| task.command = Err("no value".to_owned())).await;
    conflict(store.retry(id, at(4)).await, "no command");
}

pub(crate) async fn unknown_tasks_are_not_found(db: &Db) {
    let id = TaskId::at(at(0));
    let answers = [
        db.store.task(id).await.map(|_| ()),
        db.store.cancel(id, at(0)).await.map(|_| ()),
        db.store.retry(id, at(0)).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(StoreError::NotFound)), "{answer:?}");
    }
}
