//! Promises about one decision for many tasks.

use hetuflow_core::{
    id::TaskId,
    status::Status,
    task::{EndReason, Outcome},
};
use hetuflow_store::{CancelledAll, LowWater, Retried, Store, Stretch, TaskFilter};

use crate::{
    database::Db,
    world::{at, claimed_by, finish, slot, stored, task},
};

const WHOLE: Stretch = Stretch { after: None, limit: 500 };

/// Tasks that ended with this outcome, made one second after another from `first` on.
async fn ended(store: &dyn Store, count: i64, first: i64, outcome: Outcome) -> Vec<TaskId> {
    let slot = slot(store, "web-1").await;
    let mut ids = Vec::new();
    for n in 0..count {
        let id = stored(store, at(first + n), |_| ()).await;
        let lane = store.waiting_lanes(&[]).await.expect("lanes").remove(0);
        let claimed = store
            .claim(lane.id, LowWater::START, std::slice::from_ref(&slot), at(900))
            .await
            .expect("claimed");
        assert_eq!(claimed[0].task.id, id);
        store.finish(&[finish(claimed[0].lease, outcome.clone())], at(901), 0.0).await.expect("ended");
        ids.push(id);
    }
    ids
}

fn failed() -> TaskFilter {
    TaskFilter { status: vec![Status::Failed], ..TaskFilter::default() }
}

async fn statuses(store: &dyn Store, ids: &[TaskId]) -> Vec<Status> {
    let mut statuses = Vec::new();
    for id in ids {
        statuses.push(task(store, *id).await.status);
    }
    statuses
}

pub(crate) async fn what_ended_runs_again_stretch_by_stretch(db: &Db) {
    let store = &*db.store;
    let ids = ended(store, 5, 0, Outcome::exit(1)).await;
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    let mut stretch = Stretch { after: None, limit: 2 };
    let mut seen = Vec::new();
    loop {
        let done = store.retry_all(&failed(), stretch, at(950)).await.expect("retried");
        seen.push(done.retried);
        let Some(next) = done.next else { break };
        stretch.after = Some(next);
    }
    assert_eq!(seen, [2, 2, 1]);
    changes.changed().await.expect("listeners are told");
    let again = task(store, ids[4]).await;
    assert_eq!((again.status, again.run_at, again.attempt), (Status::Pending, at(950), 1));
    assert_eq!((again.outcome, again.finished_at), (None, None));
    assert_eq!(statuses(store, &ids).await, [Status::Pending; 5]);
}

pub(crate) async fn a_stretch_again_changes_nothing_twice(db: &Db) {
    let store = &*db.store;
    ended(store, 3, 0, Outcome::exit(1)).await;
    let first = store.retry_all(&failed(), WHOLE, at(950)).await.expect("retried");
    assert_eq!(first, Retried { retried: 3, skipped: 0, next: None });
    assert_eq!(store.retry_all(&failed(), WHOLE, at(951)).await.expect("retried"), Retried::default());
}

pub(crate) async fn only_what_the_filter_lets_through_runs_again(db: &Db) {
    let store = &*db.store;
    let failures = ended(store, 2, 0, Outcome::exit(1)).await;
    let done = ended(store, 1, 10, Outcome::exit(0)).await;
    let lost = ended(store, 1, 20, Outcome::because(EndReason::Lost, "gone")).await;
    let waits = stored(store, at(30), |_| ()).await;
    let broken = stored(store, at(31), |task| task.command = Err("no value".to_owned())).await;
    let late = TaskFilter { since: Some(at(1)), ..failed() };
    let retried = store.retry_all(&late, WHOLE, at(950)).await.expect("retried");
    assert_eq!(retried, Retried { retried: 1, skipped: 1, next: None });
    let all = [failures[0], failures[1], done[0], lost[0], waits, broken];
    let expected =
        [Status::Failed, Status::Pending, Status::Succeeded, Status::Lost, Status::Pending, Status::Failed];
    assert_eq!(statuses(store, &all).await, expected);
    // Without a status: whatever has ended.
    let retried = store.retry_all(&TaskFilter::default(), WHOLE, at(950)).await.expect("retried");
    assert_eq!(retried, Retried { retried: 3, skipped: 1, next: None });
}

pub(crate) async fn many_are_cancelled_or_asked_to_end(db: &Db) {
    let store = &*db.store;
    let done = ended(store, 1, 0, Outcome::exit(0)).await;
    let held = claimed_by(store, &slot(store, "web-2").await, |_| ()).await.task.id;
    let waits = [stored(store, at(20), |_| ()).await, stored(store, at(999), |_| ()).await];
    let pending = TaskFilter { status: vec![Status::Pending], ..TaskFilter::default() };
    let cancelled = store.cancel_all(&pending, WHOLE, at(950)).await.expect("cancelled");
    assert_eq!(cancelled, CancelledAll { cancelled: 2, asked: 0, next: None });
    assert!(!task(store, held).await.cancel_requested);
    let any = TaskFilter::default();
    let cancelled = store.cancel_all(&any, WHOLE, at(951)).await.expect("cancelled");
    assert_eq!(cancelled, CancelledAll { cancelled: 0, asked: 1, next: None });
    assert_eq!(store.cancel_all(&any, WHOLE, at(952)).await.expect("again"), CancelledAll::default());
    let gone = task(store, waits[1]).await;
    assert_eq!((gone.status, gone.finished_at), (Status::Cancelled, Some(at(950))));
    assert_eq!(gone.outcome.map(|outcome| outcome.reason), Some(EndReason::Cancelled));
    assert_eq!(store.cancel_requests().await.expect("requests").len(), 1);
    assert_eq!(statuses(store, &[done[0], held]).await, [Status::Succeeded, Status::Locked]);
}

pub(crate) async fn two_walks_retry_each_task_once(db: &Db) {
    let store = &*db.store;
    ended(store, 20, 0, Outcome::exit(1)).await;
    let walk = async || {
        let (mut stretch, mut retried) = (Stretch { after: None, limit: 3 }, 0);
        loop {
            let done = store.retry_all(&failed(), stretch, at(950)).await.expect("retried");
            retried += done.retried;
            let Some(next) = done.next else { return retried };
            stretch.after = Some(next);
        }
    };
    let (one, other) = tokio::join!(walk(), walk());
    assert_eq!(one + other, 20);
}

pub(crate) async fn tasks_are_counted(db: &Db) {
    let store = &*db.store;
    ended(store, 3, 0, Outcome::exit(1)).await;
    stored(store, at(10), |_| ()).await;
    let count = async |filter, at_most| store.count_tasks(&filter, at_most).await.expect("a count");
    assert_eq!(count(TaskFilter::default(), 100).await, 4);
    assert_eq!(count(failed(), 100).await, 3);
    assert_eq!(count(failed(), 2).await, 2);
}
