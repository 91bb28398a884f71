//! Promises about the life of an attempt, from its lease to its end.

use hetuflow_core::{
    id::InstanceId,
    retry::OnLost,
    status::Status,
    task::{EndReason, Lease, Outcome},
};
use hetuflow_store::{Claimed, Finish, Report, Store, StoreError};

use crate::{
    database::Db,
    world::{at, claim, claimed, claimed_by, finish, instance, lanes, note, policy, slot, task},
};

async fn end(store: &dyn Store, lease: Lease, outcome: Outcome) -> Report {
    store.finish(&[finish(lease, outcome)], at(3), 0.0).await.expect("an answer").remove(0)
}

async fn statuses(store: &dyn Store, claimed: &Claimed) -> (Status, Status) {
    (task(store, claimed.task.id).await.status, instance(store, claimed.lease).await.status)
}

pub(crate) async fn an_attempt_is_accepted_and_started(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    assert_eq!(note(store, claimed.lease, None).await, Report::Recorded);
    assert_eq!(statuses(store, &claimed).await, (Status::Dispatched, Status::Dispatched));
    assert_eq!(note(store, claimed.lease, Some(at(2))).await, Report::Recorded);
    assert_eq!(statuses(store, &claimed).await, (Status::Running, Status::Running));
    assert_eq!(note(store, claimed.lease, None).await, Report::Recorded);
    assert_eq!(note(store, claimed.lease, Some(at(9))).await, Report::Recorded);
    assert_eq!(statuses(store, &claimed).await, (Status::Running, Status::Running));
    assert_eq!(instance(store, claimed.lease).await.started_at, Some(at(2)));
}

pub(crate) async fn an_attempt_may_start_before_it_is_accepted(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    assert_eq!(note(store, claimed.lease, Some(at(2))).await, Report::Recorded);
    assert_eq!(statuses(store, &claimed).await, (Status::Running, Status::Running));
}

async fn assert_fenced(store: &dyn Store, lease: Lease) {
    assert_eq!(note(store, lease, None).await, Report::Fenced);
    assert_eq!(note(store, lease, Some(at(2))).await, Report::Fenced);
    assert_eq!(store.give_back(lease, at(2)).await.expect("an answer"), Report::Fenced);
    assert_eq!(end(store, lease, Outcome::exit(0)).await, Report::Fenced);
}

pub(crate) async fn an_unknown_lease_is_fenced(db: &Db) {
    let store = &*db.store;
    let Claimed { lease, task: before, .. } = claimed(store, |_| ()).await;
    assert_fenced(store, Lease { instance_id: InstanceId::at(at(1)), ..lease }).await;
    assert_fenced(store, Lease { fence: lease.fence + 1, ..lease }).await;
    assert_eq!(task(store, before.id).await, before);
}

pub(crate) async fn an_old_lease_is_fenced(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let old = claimed_by(store, &slot, |_| ()).await;
    store.give_back(old.lease, at(1)).await.expect("given back");
    let new = claim(store, &[slot], at(2)).await.remove(0);
    assert_eq!(new.task.id, old.task.id);
    assert_fenced(store, old.lease).await;
    assert_eq!(task(store, old.task.id).await, new.task);
}

pub(crate) async fn an_attempt_given_back_never_was(db: &Db) {
    let store = &*db.store;
    let Claimed { lease, .. } = claimed(store, |_| ()).await;
    assert_eq!(note(store, lease, None).await, Report::Recorded);
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    assert_eq!(store.give_back(lease, at(2)).await.expect("an answer"), Report::Recorded);
    changes.changed().await.expect("listeners are told");
    let task = task(store, lease.task_id).await;
    assert_eq!((task.status, task.attempt, task.fence, task.run_at), (Status::Pending, 0, 1, at(0)));
    let error = store.instance(lease.instance_id).await.expect_err("the instance is gone");
    assert!(matches!(error, StoreError::NotFound), "{error:?}");
}

pub(crate) async fn an_attempt_that_has_started_is_not_given_back(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    note(store, claimed.lease, Some(at(2))).await;
    assert_eq!(store.give_back(claimed.lease, at(2)).await.expect("an answer"), Report::Fenced);
    assert_eq!(statuses(store, &claimed).await, (Status::Running, Status::Running));
}

pub(crate) async fn a_retry_given_back_still_waits_for_its_retry(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = claimed_by(store, &slot, |task| task.policy = policy(1, OnLost::Hold)).await;
    end(store, first.lease, Outcome::exit(1)).await;
    let second = claim(store, &[slot], at(20)).await.remove(0);
    store.give_back(second.lease, at(21)).await.expect("given back");
    let task = task(store, first.task.id).await;
    assert_eq!((task.status, task.attempt, task.fence), (Status::WaitingRetry, 1, 2));
    assert_eq!(task.outcome, Some(Outcome::exit(1)));
}

pub(crate) async fn a_cancelled_attempt_given_back_is_cancelled(db: &Db) {
    let store = &*db.store;
    let Claimed { lease, .. } = claimed(store, |_| ()).await;
    store.cancel(lease.task_id, at(2)).await.expect("asked");
    assert_eq!(store.give_back(lease, at(3)).await.expect("an answer"), Report::Recorded);
    let task = task(store, lease.task_id).await;
    assert_eq!((task.status, task.finished_at), (Status::Cancelled, Some(at(3))));
    assert_eq!(task.outcome.map(|outcome| outcome.reason), Some(EndReason::Cancelled));
}

pub(crate) async fn a_success_ends_the_task(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |task| task.policy = policy(3, OnLost::Retry)).await;
    let finish = Finish { output_dropped: 42, ..finish(claimed.lease, Outcome::exit(0)) };
    assert_eq!(store.finish(&[finish], at(3), 0.0).await.expect("an answer"), [Report::Recorded]);
    assert_eq!(statuses(store, &claimed).await, (Status::Succeeded, Status::Succeeded));
    let (task, instance) = (task(store, claimed.task.id).await, instance(store, claimed.lease).await);
    assert_eq!((task.outcome, task.finished_at, task.attempt), (Some(Outcome::exit(0)), Some(at(3)), 1));
    assert_eq!((instance.started_at, instance.finished_at), (Some(at(2)), Some(at(3))));
    assert_eq!((instance.outcome, instance.output_dropped), (Some(Outcome::exit(0)), 42));
}

pub(crate) async fn a_failure_is_retried_after_its_wait(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = claimed_by(store, &slot, |task| task.policy = policy(1, OnLost::Hold)).await;
    assert_eq!(end(store, first.lease, Outcome::exit(1)).await, Report::Recorded);
    assert_eq!(statuses(store, &first).await, (Status::WaitingRetry, Status::Failed));
    let task = task(store, first.task.id).await;
    assert_eq!((task.run_at, task.finished_at, task.outcome), (at(13), None, Some(Outcome::exit(1))));
    assert_eq!(claim(store, std::slice::from_ref(&slot), at(12)).await, []);
    let second = claim(store, &[slot], at(13)).await.remove(0);
    assert_eq!((second.task.id, second.task.attempt, second.lease.fence), (task.id, 2, 2));
}

pub(crate) async fn the_last_failure_ends_the_task(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = claimed_by(store, &slot, |task| task.policy = policy(1, OnLost::Hold)).await;
    end(store, first.lease, Outcome::exit(1)).await;
    let second = claim(store, &[slot], at(20)).await.remove(0);
    end(store, second.lease, Outcome::because(EndReason::Timeout, "too long")).await;
    assert_eq!(statuses(store, &second).await, (Status::TimedOut, Status::TimedOut));
    assert_eq!(instance(store, first.lease).await.status, Status::Failed);
    assert_eq!(lanes(store, at(1000)).await, []);
}

pub(crate) async fn an_end_is_recorded_once_and_answered_again(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |_| ()).await;
    let twice = [finish(claimed.lease, Outcome::exit(0)), finish(claimed.lease, Outcome::exit(0))];
    let reports = store.finish(&twice, at(3), 0.0).await.expect("an answer");
    assert_eq!(reports, [Report::Recorded, Report::Recorded]);
    let before = task(store, claimed.task.id).await;
    assert_eq!(end(store, claimed.lease, Outcome::exit(7)).await, Report::Recorded);
    assert_eq!(task(store, claimed.task.id).await, before);
    assert_eq!(instance(store, claimed.lease).await.outcome, Some(Outcome::exit(0)));
    assert_eq!(note(store, claimed.lease, Some(at(9))).await, Report::Fenced);
}

pub(crate) async fn an_end_is_answered_again_after_the_next_claim(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = claimed_by(store, &slot, |task| task.policy = policy(1, OnLost::Hold)).await;
    end(store, first.lease, Outcome::exit(1)).await;
    let second = claim(store, &[slot], at(20)).await.remove(0);
    assert_eq!(end(store, first.lease, Outcome::exit(1)).await, Report::Recorded);
    assert_eq!(task(store, first.task.id).await, second.task);
}

pub(crate) async fn a_cancelled_attempt_is_not_retried(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, |task| task.policy = policy(5, OnLost::Retry)).await;
    store.cancel(claimed.task.id, at(2)).await.expect("asked");
    end(store, claimed.lease, Outcome::exit(1)).await;
    assert_eq!(statuses(store, &claimed).await, (Status::Failed, Status::Failed));
}

pub(crate) async fn ends_of_a_batch_are_answered_in_order(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let one = claimed_by(store, &slot, |_| ()).await;
    let two = claimed_by(store, &slot, |_| ()).await;
    let stale = Lease { fence: 9, ..one.lease };
    let batch = [
        finish(two.lease, Outcome::exit(3)),
        finish(stale, Outcome::exit(4)),
        finish(one.lease, Outcome::exit(0)),
    ];
    let reports = store.finish(&batch, at(3), 0.0).await.expect("answers");
    assert_eq!(reports, [Report::Recorded, Report::Fenced, Report::Recorded]);
    assert_eq!(statuses(store, &one).await.0, Status::Succeeded);
    assert_eq!(statuses(store, &two).await.0, Status::Failed);
}
