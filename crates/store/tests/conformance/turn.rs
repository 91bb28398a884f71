//! Promises of `ScheduleStore` about runs that would overlap.

use futures_util::future::join_all;
use hetuflow_core::{
    event::DecisionOutcome,
    id::{ScheduleId, TaskId},
    schedule::Overlap,
    status::Status,
    task::Outcome,
};
use hetuflow_store::{Claimed, EventFilter, Fire, Fired, NewTrigger, Page, Queue, Store, Turns};
use jiff::Timestamp;

use crate::{
    database::Db,
    trigger::{interval, new_trigger, put},
    world::{at, claim, finish, ingest, slot, task},
};

const KEY: &str = "default/deploy/interval 1";

/// One schedule that fires every 300 seconds, the first time at 300.
pub(crate) async fn scheduled(store: &dyn Store) -> ScheduleId {
    let schedules = vec![interval("interval 1", 300, at(300))];
    put(store, NewTrigger { schedules, ..new_trigger("deploy", "v1") }, at(0)).await.schedules[0].id
}

fn fire(id: ScheduleId, overlap: Overlap, run_at: Timestamp) -> (Fire, TaskId) {
    let ingest = ingest(run_at, |task| task.schedule_id = Some(id));
    let task = ingest.tasks[0].id;
    let next = Some(run_at + jiff::SignedDuration::from_secs(300));
    let turns = Some(Turns { key: KEY.to_owned(), overlap });
    (Fire { id, run_at, next, ingest: Some(ingest), turns }, task)
}

pub(crate) async fn fired(
    store: &dyn Store,
    id: ScheduleId,
    overlap: Overlap,
    seconds: i64,
) -> (Fired, TaskId) {
    let (fire, task) = fire(id, overlap, at(seconds));
    (store.fire(&[fire]).await.expect("an answer")[0], task)
}

/// The task that an agent can have now.
pub(crate) async fn claimed(store: &dyn Store, now: Timestamp) -> Vec<Claimed> {
    let slot = slot(store, "web-1").await;
    claim(store, &[slot.clone(), slot], now).await
}

async fn end(store: &dyn Store, claimed: &Claimed) {
    store.finish(&[finish(claimed.lease, Outcome::exit(0))], at(3000), 0.0).await.expect("ended");
}

pub(crate) async fn a_fire_that_would_overlap_is_skipped(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let (stored, first) = fired(store, id, Overlap::Skip, 300).await;
    assert_eq!(stored, Fired::Stored);
    // It waits, it runs, it has ended.
    assert_eq!(fired(store, id, Overlap::Skip, 600).await.0, Fired::Overlaps);
    let running = claimed(store, at(700)).await;
    assert_eq!(fired(store, id, Overlap::Skip, 900).await.0, Fired::Overlaps);
    end(store, &running[0]).await;
    let (stored, last) = fired(store, id, Overlap::Skip, 1200).await;
    assert_eq!(stored, Fired::Stored);
    assert!(!task(store, last).await.queued);

    let events = store.events(&EventFilter::default(), Page::default()).await.expect("events");
    let skipped: Vec<_> = events.iter().filter(|event| event.event_type == "schedule.skipped").collect();
    assert_eq!(skipped.len(), 2);
    let decision = &skipped[0].decisions[0];
    assert_eq!(decision.outcome, DecisionOutcome::Skipped);
    let reason = decision.reason.as_deref().expect("a reason");
    assert!(reason.contains(&format!("the run of {} (task {first})", at(300))), "{reason}");
    let schedule = store.triggers().await.expect("triggers")[0].schedules[0].clone();
    assert_eq!((schedule.next_run_at, schedule.last_run_at), (Some(at(1500)), Some(at(1200))));
}

pub(crate) async fn one_run_waits_for_the_one_before(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let (_, first) = fired(store, id, Overlap::QueueOne, 300).await;
    let (stored, second) = fired(store, id, Overlap::QueueOne, 600).await;
    assert_eq!(stored, Fired::Stored);
    assert_eq!(fired(store, id, Overlap::QueueOne, 900).await.0, Fired::Overlaps);
    let waits = task(store, second).await;
    assert!(waits.queued);
    assert_eq!((waits.status, waits.run_at), (Status::Pending, at(600)));
    let ahead = store.ahead(second).await.expect("an answer").expect("the first");
    assert_eq!((ahead.task_id, ahead.run_at), (first, at(300)));

    let running = claimed(store, at(99_999)).await;
    assert_eq!(running.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), [first]);
    let passed = store.pass_turns(at(1000)).await.expect("none");
    assert_eq!((passed.released, passed.queue), (0, Queue::Waiting));
    end(store, &running[0]).await;
    let passed = store.pass_turns(at(1100)).await.expect("one");
    assert_eq!((passed.released, passed.queue), (1, Queue::Empty));
    let free = task(store, second).await;
    assert_eq!((free.queued, free.run_at), (false, at(1100)));
    assert_eq!(store.ahead(second).await.expect("an answer"), None);
    assert_eq!(claimed(store, at(1100)).await[0].task.id, second);
}

pub(crate) async fn all_runs_go_one_after_the_other(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let mut tasks = Vec::new();
    for n in 1..=4 {
        let (stored, task) = fired(store, id, Overlap::QueueAll, 300 * n).await;
        assert_eq!(stored, Fired::Stored);
        tasks.push(task);
    }
    // One that is cancelled while it waits is passed over.
    store.cancel(tasks[2], at(1300)).await.expect("cancelled");
    for (n, expected) in [tasks[0], tasks[1], tasks[3]].into_iter().enumerate() {
        let passed = store.pass_turns(at(2000)).await.expect("an answer");
        assert_eq!(passed.released, usize::from(n > 0));
        assert_eq!(store.pass_turns(at(2000)).await.expect("an answer").released, 0);
        let running = claimed(store, at(2000)).await;
        assert_eq!(running.iter().map(|claimed| claimed.task.id).collect::<Vec<_>>(), [expected]);
        end(store, &running[0]).await;
    }
    assert_eq!(store.forget_turns(100).await.expect("forgotten"), 1);
}

pub(crate) async fn a_new_run_cancels_the_old_one(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let (_, first) = fired(store, id, Overlap::CancelOld, 300).await;
    // What waits is cancelled at once, and the new one need not wait.
    let (_, second) = fired(store, id, Overlap::CancelOld, 600).await;
    assert_eq!(task(store, first).await.status, Status::Cancelled);
    assert!(!task(store, second).await.queued);

    let running = claimed(store, at(700)).await;
    let (_, third) = fired(store, id, Overlap::CancelOld, 900).await;
    let asked = task(store, second).await;
    assert_eq!((asked.status, asked.cancel_requested), (Status::Locked, true));
    assert!(task(store, third).await.queued);
    // A fourth replaces the third, which waits, and waits for the second.
    let (_, fourth) = fired(store, id, Overlap::CancelOld, 1200).await;
    assert_eq!(task(store, third).await.status, Status::Cancelled);
    assert!(task(store, fourth).await.queued);
    end(store, &running[0]).await;
    assert_eq!(store.pass_turns(at(1300)).await.expect("one").released, 1);
    assert_eq!(claimed(store, at(1300)).await[0].task.id, fourth);
}

pub(crate) async fn ten_servers_let_one_run_go(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    for n in 1..=3 {
        fired(store, id, Overlap::QueueAll, 300 * n).await;
    }
    let running = claimed(store, at(1000)).await;
    end(store, &running[0]).await;
    join_all((0..10).map(|_| store.pass_turns(at(1100)))).await;
    assert_eq!(claimed(store, at(1100)).await.len(), 1);
}

pub(crate) async fn a_task_without_a_turn_has_nobody_ahead(db: &Db) {
    let store = &*db.store;
    assert_eq!(store.ahead(TaskId::at(at(0))).await.expect("an answer"), None);
    let passed = store.pass_turns(at(0)).await.expect("an answer");
    assert_eq!((passed.released, passed.queue), (0, Queue::Empty));
}
