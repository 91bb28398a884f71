//! Promises of `ScheduleStore` about daemons: one run at a time, and a next one when it shall have one.

use std::time::Duration;

use futures_util::future::join_all;
use hetuflow_core::{
    id::{ScheduleId, TaskId},
    job::JobSpec,
    retry::{OnLost, RetryPolicy},
    schedule::{DaemonRule, Restart, ScheduleKind},
    status::Status,
    task::{EndReason, Outcome},
};
use hetuflow_store::{
    Claimed, DaemonNow, DaemonStart, DaemonState, Fired, NewSchedule, NewTrigger, Page, ScheduleFilter,
    Store, StoreError, StoredSchedule, Stretch, TaskFilter, Tended, Tending,
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    database::Db,
    trigger::{new_trigger, put},
    world::{at, claim, finish, ingest, job_spec, note, slot, task},
};

pub(crate) const RULE: DaemonRule = DaemonRule {
    restart: Restart::Always,
    backoff: Duration::from_secs(5),
    max_backoff: Duration::from_mins(1),
    reset_after: Duration::from_mins(1),
};

fn daemon(rule: DaemonRule, now: Timestamp) -> NewSchedule {
    NewSchedule {
        kind: ScheduleKind::Daemon,
        name: "daemon 1".to_owned(),
        spec: json!(rule),
        created_at: now,
        next_run_at: Some(now),
    }
}

/// A trigger whose job `cmd` shall run always.
pub(crate) fn keeps(cmd: &str, rule: DaemonRule, now: Timestamp) -> NewTrigger {
    let job = Some(job_spec(cmd));
    // Another text, so that it is taken for a change.
    let text = format!("{cmd} {rule:?} {now}");
    NewTrigger { job, schedules: vec![daemon(rule, now)], ..new_trigger("consumer", &text) }
}

pub(crate) async fn kept(store: &dyn Store, cmd: &str) -> ScheduleId {
    put(store, keeps(cmd, RULE, at(0)), at(0)).await.schedules[0].id
}

pub(crate) async fn schedule(store: &dyn Store) -> StoredSchedule {
    store.triggers().await.expect("triggers")[0].schedules[0].clone()
}

/// What a server would store that knows the job as `cmd`.
pub(crate) fn start(id: ScheduleId, cmd: &str, run_at: Timestamp) -> (DaemonStart, TaskId) {
    let definition: JobSpec = job_spec(cmd);
    let ingest = ingest(run_at, |task| {
        task.schedule_id = Some(id);
        task.policy = RetryPolicy::of_daemon(&definition);
    });
    let task = ingest.tasks[0].id;
    (DaemonStart { id, run_at, definition, ingest }, task)
}

/// Starts what is due, which must be something.
pub(crate) async fn started(store: &dyn Store, cmd: &str) -> TaskId {
    let schedule = schedule(store).await;
    let (start, task) = start(schedule.id, cmd, schedule.next_run_at.expect("it is due some time"));
    assert_eq!(store.start_daemon(&start).await.expect("an answer"), Fired::Stored);
    task
}

/// A run of it, on an agent.
pub(crate) async fn running(store: &dyn Store, cmd: &str) -> Claimed {
    let id = started(store, cmd).await;
    let slot = slot(store, "web-1").await;
    let claimed = claim(store, &[slot], at(9999)).await.remove(0);
    assert_eq!(claimed.task.id, id);
    note(store, claimed.lease, Some(at(2))).await;
    claimed
}

pub(crate) async fn tend(store: &dyn Store, now: Timestamp) -> Vec<Tending> {
    let tended = store.tend_daemons(now).await.expect("an answer");
    tended.into_iter().map(|Tended { what, .. }| what).collect()
}

/// It ends at second 3, having begun at 2.
pub(crate) async fn end(store: &dyn Store, claimed: &Claimed, outcome: Outcome) {
    store.finish(&[finish(claimed.lease, outcome)], at(3), 0.0).await.expect("ended");
}

pub(crate) async fn now(store: &dyn Store) -> DaemonNow {
    let filter = ScheduleFilter::default();
    let list = store.schedules(&filter, Page::default()).await.expect("a list");
    list.into_iter().next().expect("a schedule").daemon.expect("a daemon")
}

pub(crate) fn lost(gone: bool) -> Outcome {
    Outcome { gone, ..Outcome::because(EndReason::Lost, "nobody knows") }
}

pub(crate) async fn a_daemon_starts_once(db: &Db) {
    let store = &*db.store;
    assert!(!store.has_daemons().await.expect("an answer"));
    let id = kept(store, "consume").await;
    let starts: Vec<_> = (0..10).map(|_| start(id, "consume", at(0)).0).collect();
    let fired = join_all(starts.iter().map(|start| store.start_daemon(start))).await;
    let stored = fired.into_iter().filter(|fired| matches!(fired, Ok(Fired::Stored))).count();
    assert_eq!(stored, 1);
    let tasks = store.tasks(&TaskFilter::default(), Page::default()).await.expect("tasks");
    assert_eq!(tasks.len(), 1);
    assert!(tasks[0].policy.daemon && store.has_daemons().await.expect("an answer"));
    let schedule = schedule(store).await;
    assert_eq!((schedule.next_run_at, schedule.last_run_at), (None, Some(at(0))));
    assert_eq!(tend(store, at(1)).await, []);
}

pub(crate) async fn a_daemon_starts_as_its_job_is_now(db: &Db) {
    let store = &*db.store;
    let id = kept(store, "consume").await;
    let (outdated, _) = start(id, "devour", at(0));
    assert_eq!(store.start_daemon(&outdated).await.expect("an answer"), Fired::Elsewhere);
    let (early, _) = start(id, "consume", at(1));
    assert_eq!(store.start_daemon(&early).await.expect("an answer"), Fired::Elsewhere);
    assert_eq!(schedule(store).await.next_run_at, Some(at(0)));
    started(store, "consume").await;
}

pub(crate) async fn a_daemon_that_ended_starts_again_after_its_wait(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    for restarts in 1..=3_u32 {
        let run = running(store, "consume").await;
        let state = now(store).await;
        assert_eq!((state.state, state.restarts), (DaemonState::Running, restarts - 1));
        assert_eq!((state.task_id, state.started_at), (run.task.id, Some(at(2))));
        let mut changes = store.task_changes();
        changes.mark_unchanged();
        end(store, &run, Outcome::exit(0)).await;
        changes.changed().await.expect("whoever restarts it hears of the end");
        let wait = 5 * 2_i64.pow(restarts - 1);
        assert_eq!(tend(store, at(4)).await, [Tending::Starts { at: at(3 + wait), restarts }]);
        assert_eq!(schedule(store).await.next_run_at, Some(at(3 + wait)));
        assert_eq!(tend(store, at(4)).await, []);
        let state = now(store).await;
        assert_eq!((state.state, state.outcome), (DaemonState::Restarting, Some(Outcome::exit(0))));
    }
}

pub(crate) async fn a_daemon_that_shall_not_go_on_stops(db: &Db) {
    let store = &*db.store;
    let rule = DaemonRule { restart: Restart::OnFailure, ..RULE };
    put(store, keeps("consume", rule, at(0)), at(0)).await;
    let run = running(store, "consume").await;
    end(store, &run, Outcome::exit(0)).await;
    assert_eq!(tend(store, at(4)).await, [Tending::Stopped]);
    assert_eq!(tend(store, at(5)).await, []);
    assert_eq!((schedule(store).await.next_run_at, now(store).await.state), (None, DaemonState::Stopped));
    // By hand it goes on.
    store.retry(run.task.id, at(6)).await.expect("it runs again");
    assert_eq!(tend(store, at(7)).await, []);
    assert_eq!(now(store).await.state, DaemonState::Starting);
    // And by hand it ends.
    store.cancel(run.task.id, at(8)).await.expect("cancelled");
    assert_eq!(tend(store, at(9)).await, [Tending::Stopped]);
}

pub(crate) async fn a_daemon_that_may_still_run_waits_for_a_person(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    end(store, &run, lost(false)).await;
    assert_eq!(tend(store, at(4)).await, [Tending::Held]);
    assert_eq!(tend(store, at(9999)).await, []);
    assert_eq!((schedule(store).await.next_run_at, now(store).await.state), (None, DaemonState::Held));
    assert!(task(store, run.task.id).await.is_held());
    // No edit settles that.
    let again = put(store, keeps("devour", DaemonRule::default(), at(10)), at(10)).await;
    let (second, _) = start(again.schedules[0].id, "devour", at(10));
    assert_eq!(store.start_daemon(&second).await.expect("an answer"), Fired::Elsewhere);
    assert_eq!(tend(store, at(11)).await, []);
    // A person does, and then the new job replaces the old one.
    store.retry(run.task.id, at(12)).await.expect("it runs again");
    assert_eq!(tend(store, at(13)).await, [Tending::Ends]);
    assert_eq!(tend(store, at(14)).await, [Tending::Starts { at: at(14), restarts: 0 }]);
    started(store, "devour").await;
}

pub(crate) async fn a_daemon_that_is_known_to_be_gone_starts_again(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let run = running(store, "consume").await;
    end(store, &run, lost(true)).await;
    assert_eq!(tend(store, at(4)).await, [Tending::Starts { at: at(8), restarts: 1 }]);
    let lost = task(store, run.task.id).await;
    assert!(lost.status == Status::Lost && !lost.is_held(), "{lost:?}");
    let held =
        TaskFilter { status: vec![Status::Lost], on_lost: Some(OnLost::Hold), ..TaskFilter::default() };
    assert_eq!(store.count_tasks(&held, 10).await.expect("a count"), 0);
}

pub(crate) async fn only_the_last_run_of_a_daemon_is_run_again(db: &Db) {
    let store = &*db.store;
    kept(store, "consume").await;
    let first = running(store, "consume").await;
    end(store, &first, Outcome::exit(1)).await;
    tend(store, at(4)).await;
    // Neither while the next one is planned, nor while it runs.
    for _ in 0..2 {
        let refused = store.retry(first.task.id, at(5)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        let failed = TaskFilter { status: vec![Status::Failed], ..TaskFilter::default() };
        let all = store.retry_all(&failed, Stretch { after: None, limit: 10 }, at(5)).await.expect("skipped");
        assert_eq!((all.retried, all.skipped), (0, 1));
        if schedule(store).await.next_run_at.is_some() {
            started(store, "consume").await;
        }
    }
    assert_eq!(task(store, first.task.id).await.status, Status::Failed);
}

pub(crate) async fn ten_servers_start_one_run_after_an_end(db: &Db) {
    let store = &*db.store;
    let id = kept(store, "consume").await;
    let run = running(store, "consume").await;
    end(store, &run, lost(true)).await;
    // Each looks, then starts what it finds due; and somebody asks for the old run.
    let servers = join_all((0..10).map(|_| async {
        store.tend_daemons(at(100)).await.expect("an answer");
        let Some(run_at) = schedule(store).await.next_run_at else { return 0 };
        let (start, _) = start(id, "consume", run_at);
        usize::from(store.start_daemon(&start).await.expect("an answer") == Fired::Stored)
    }));
    let person = async { usize::from(store.retry(run.task.id, at(100)).await.is_ok()) };
    let (started, by_hand) = futures_util::future::join(servers, person).await;
    assert_eq!(started.into_iter().sum::<usize>() + by_hand, 1);
    let live = TaskFilter { status: vec![Status::Pending], ..TaskFilter::default() };
    assert_eq!(store.count_tasks(&live, 10).await.expect("a count"), 1);
}
