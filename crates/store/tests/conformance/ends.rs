//! Promises about ends of tasks that are to become events.

use hetuflow_core::{
    id::TaskId,
    retry::OnLost,
    status::Status,
    task::{NewTask, Outcome, Telling},
};
use hetuflow_store::{Ended, Stretch, TaskFilter};
use jiff::Timestamp;

use crate::{
    database::Db,
    world::{at, claim, claimed, claimed_by, finish, policy, slot, stored, task},
};

fn told_of(task: &mut NewTask) {
    task.telling = Telling::Everything;
}

async fn untold(db: &Db) -> Vec<(TaskId, Status)> {
    let ends = db.store.untold_ends(10).await.expect("ends");
    ends.iter().map(|end| (end.task.id, end.task.status)).collect()
}

fn told(end: &Ended) -> (TaskId, Timestamp) {
    (end.task.id, end.task.finished_at.expect("it has ended"))
}

pub(crate) async fn ends_wait_to_be_told(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let silent = claimed_by(store, &slot, |_| ()).await;
    let well = claimed_by(store, &slot, told_of).await;
    let badly = claimed_by(store, &slot, told_of).await;
    let retries = |task: &mut NewTask| {
        told_of(task);
        task.policy = policy(1, OnLost::Hold);
    };
    let again = claimed_by(store, &slot, retries).await;
    let ends = [(&silent, 0), (&well, 0), (&badly, 1), (&again, 1)];
    let ends = ends.map(|(claimed, code)| finish(claimed.lease, Outcome::exit(code)));
    store.finish(&ends, at(3), 0.0).await.expect("ended");
    let cancelled = stored(store, at(0), told_of).await;
    store.cancel(cancelled, at(4)).await.expect("cancelled");
    let unrendered = stored(store, at(5), |task| {
        told_of(task);
        task.command = Err("a template found no value".to_owned());
    })
    .await;
    let mut ends = untold(db).await;
    assert_eq!(
        ends[2..],
        [(cancelled, Status::Cancelled), (unrendered, Status::Failed)],
        "the first ends first"
    );
    ends[..2].sort();
    let mut expected = [(well.task.id, Status::Succeeded), (badly.task.id, Status::Failed)];
    expected.sort();
    assert_eq!(ends[..2], expected);
    assert_eq!(store.untold_ends(1).await.expect("ends").len(), 1);
}

pub(crate) async fn of_trouble_only_successes_are_not_told(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let trouble = |task: &mut NewTask| task.telling = Telling::Trouble;
    let [well, badly] = [claimed_by(store, &slot, trouble).await, claimed_by(store, &slot, trouble).await];
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    store.finish(&[finish(well.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    assert_eq!(untold(db).await, []);
    store.finish(&[finish(badly.lease, Outcome::exit(1))], at(3), 0.0).await.expect("ended");
    changes.changed().await.expect("listeners are told");
    assert_eq!(untold(db).await, [(badly.task.id, Status::Failed)]);
    let end = store.untold_ends(1).await.expect("ends").remove(0);
    store.note_told(&[told(&end)]).await.expect("noted");
    store.retry(badly.task.id, at(5)).await.expect("queued again");
    store.cancel(badly.task.id, at(6)).await.expect("cancelled");
    assert_eq!(untold(db).await, [(badly.task.id, Status::Cancelled)]);
}

pub(crate) async fn an_end_is_told_once(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, told_of).await;
    let outputs = [("rows".to_owned(), serde_json::json!([1, "a\0b"]))].into();
    let outcome = Outcome { outputs, ..Outcome::exit(0) };
    store.finish(&[finish(claimed.lease, outcome.clone())], at(3), 0.0).await.expect("ended");
    let ends = store.untold_ends(10).await.expect("ends");
    assert_eq!(ends[0].task.outcome, Some(outcome));
    store.note_told(&[told(&ends[0])]).await.expect("noted");
    assert_eq!(untold(db).await, []);
    assert_eq!(task(store, claimed.task.id).await.status, Status::Succeeded);
}

pub(crate) async fn a_retried_task_has_another_end(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let [first, second] = [claimed_by(store, &slot, told_of).await, claimed_by(store, &slot, told_of).await];
    let ends = [&first, &second].map(|claimed| finish(claimed.lease, Outcome::exit(1)));
    store.finish(&ends, at(3), 0.0).await.expect("ended");
    let ends: Vec<_> = store.untold_ends(10).await.expect("ends").iter().map(told).collect();
    let untouched = stored(store, at(0), |_| ()).await;
    store.cancel(untouched, at(4)).await.expect("cancelled");

    // One before it is noted, the other after.
    store.retry(first.task.id, at(5)).await.expect("queued again");
    store.note_told(&ends).await.expect("noted");
    let everything = Stretch { after: None, limit: 10 };
    store.retry_all(&TaskFilter::default(), everything, at(5)).await.expect("queued again");
    assert_eq!(untold(db).await, [], "they wait");
    let slots = [slot.clone(), slot.clone(), slot];
    let claimed = claim(store, &slots, at(6)).await;
    let ends: Vec<_> = claimed
        .iter()
        .map(|claimed| hetuflow_store::Finish {
            finished_at: at(7),
            ..finish(claimed.lease, Outcome::exit(0))
        })
        .collect();
    store.finish(&ends, at(7), 0.0).await.expect("ended");
    let mut ids: Vec<TaskId> = untold(db).await.into_iter().map(|(id, _)| id).collect();
    ids.sort();
    let mut expected = [first.task.id, second.task.id];
    expected.sort();
    assert_eq!(ids, expected, "but not the one of which nothing is told");
}

pub(crate) async fn a_success_that_is_to_be_told_wakes_listeners(db: &Db) {
    let store = &*db.store;
    let claimed = claimed(store, told_of).await;
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(3), 0.0).await.expect("ended");
    changes.changed().await.expect("listeners are told");
}
