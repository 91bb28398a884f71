//! Promises of `ScheduleStore`.

use futures_util::future::join_all;
use hetuflow_core::{event::DecisionOutcome, id::ScheduleId, schedule::ScheduleKind};
use hetuflow_store::{
    Due, EventFilter, Fire, Fired, NewSchedule, NewTrigger, Page, ScheduleFilter, Stock, Store,
    StoredSchedule,
};
use jiff::Timestamp;

use crate::{
    database::Db,
    leader::lead,
    trigger::{interval, new_trigger, put},
    world::{at, ingest, task},
};

/// One schedule whose next time is second 300.
async fn scheduled(store: &dyn Store) -> ScheduleId {
    put(store, new_trigger("deploy", "v1"), at(0)).await.schedules[0].id
}

async fn schedule(store: &dyn Store) -> StoredSchedule {
    store.triggers().await.expect("triggers")[0].schedules[0].clone()
}

fn fire(id: ScheduleId, run_at: Timestamp, next: Option<Timestamp>) -> Fire {
    Fire { id, run_at, next, ingest: Some(ingest(run_at, |task| task.schedule_id = Some(id))), turns: None }
}

async fn count_events(store: &dyn Store) -> usize {
    store.events(&EventFilter::default(), Page::default()).await.expect("a list").len()
}

pub(crate) async fn due_schedules_are_the_oldest_first(db: &Db) {
    let store = &*db.store;
    assert_eq!(store.next_fire().await.expect("a time"), None);
    let schedules =
        vec![interval("interval 1", 1, at(30)), interval("interval 2", 2, at(10)), interval("x", 3, at(20))];
    let trigger = put(store, NewTrigger { schedules, ..new_trigger("clocks", "v1") }, at(0)).await;
    let due = |place: usize, run_at| Due { id: trigger.schedules[place].id, run_at };
    assert_eq!(store.next_fire().await.expect("a time"), Some(at(10)));
    assert_eq!(store.due_schedules(at(9), 10).await.expect("none"), []);
    assert_eq!(store.due_schedules(at(20), 10).await.expect("two"), [due(1, at(10)), due(2, at(20))]);
    assert_eq!(store.due_schedules(at(99), 1).await.expect("one"), [due(1, at(10))]);
}

pub(crate) async fn a_schedule_without_a_job_is_not_due(db: &Db) {
    let store = &*db.store;
    let named = NewTrigger { job: None, job_name: "deploy".to_owned(), ..new_trigger("nightly", "v1") };
    let id = put(store, named, at(0)).await.schedules[0].id;
    assert_eq!(store.due_schedules(at(300), 10).await.expect("none"), []);
    assert_eq!(store.next_fire().await.expect("a time"), None);
    put(store, NewTrigger { schedules: vec![], ..new_trigger("deploy", "v1") }, at(1)).await;
    assert_eq!(store.due_schedules(at(300), 10).await.expect("one"), [Due { id, run_at: at(300) }]);
}

pub(crate) async fn schedules_of_clocks_are_listed(db: &Db) {
    let store = &*db.store;
    let list = async |filter: ScheduleFilter, page: Page| {
        let list = store.schedules(&filter, page).await.expect("a list");
        list.into_iter().map(|one| (one.trigger, one.schedule.name)).collect::<Vec<_>>()
    };
    // Their ids say when they were made.
    let schedules = vec![interval("interval 1", 60, at(60)), interval("interval 2", 30, at(60))];
    let both = put(store, NewTrigger { schedules, ..new_trigger("both", "v1") }, at(0)).await;
    let hook = NewSchedule { kind: ScheduleKind::Event, ..interval("webhook 1", 1, at(60)) };
    put(store, NewTrigger { schedules: vec![hook], ..new_trigger("hook", "v1") }, at(0)).await;
    let one = NewTrigger { schedules: vec![interval("interval 1", 10, at(60))], ..new_trigger("one", "v1") };
    put(store, one, at(0)).await;
    let told = |trigger: &str, name: &str| (trigger.to_owned(), name.to_owned());
    let all = [told("one", "interval 1"), told("both", "interval 2"), told("both", "interval 1")];
    assert_eq!(list(ScheduleFilter::default(), Page::default()).await, all);
    let mine = ScheduleFilter { trigger: Some("both".to_owned()), ..ScheduleFilter::default() };
    assert_eq!(list(mine, Page::default()).await, all[1..]);
    let second = both.schedules[1].id;
    let by_id = ScheduleFilter { id: Some(second), ..ScheduleFilter::default() };
    assert_eq!(list(by_id, Page::default()).await, all[1..2]);
    let rest = Page { before: Some(second.uuid()), limit: 1 };
    assert_eq!(list(ScheduleFilter::default(), rest).await, all[2..]);
}

pub(crate) async fn a_fire_stores_its_event_and_moves_on(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let fire = fire(id, at(300), Some(at(600)));
    let ingest = fire.ingest.clone().expect("an event");
    let mut changes = store.task_changes();
    changes.mark_unchanged();
    assert_eq!(store.fire(&[fire]).await.expect("fired"), [Fired::Stored]);
    changes.changed().await.expect("listeners are told");
    let now = schedule(store).await;
    assert_eq!((now.id, now.next_run_at, now.last_run_at), (id, Some(at(600)), Some(at(300))));
    assert_eq!(store.event(ingest.event.id).await.expect("the event"), ingest.event);
    assert_eq!(task(store, ingest.tasks[0].id).await.schedule_id, Some(id));
}

pub(crate) async fn a_skipped_time_stores_nothing(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let skip = Fire { ingest: None, ..fire(id, at(300), None) };
    assert_eq!(store.fire(&[skip]).await.expect("moved on"), [Fired::Stored]);
    let now = schedule(store).await;
    assert_eq!((now.next_run_at, now.last_run_at), (None, None));
    assert_eq!(count_events(store).await, 0);
    assert_eq!(store.due_schedules(at(9999), 10).await.expect("ended"), []);
}

pub(crate) async fn a_fire_that_is_skipped_is_no_run(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let mut skipped = fire(id, at(300), Some(at(600)));
    let ingest = skipped.ingest.as_mut().expect("an event");
    ingest.tasks.clear();
    ingest.event.decisions[0].outcome = DecisionOutcome::Skipped;
    let event = ingest.event.clone();
    assert_eq!(store.fire(&[skipped]).await.expect("moved on"), [Fired::Stored]);
    let now = schedule(store).await;
    assert_eq!((now.next_run_at, now.last_run_at), (Some(at(600)), None));
    assert_eq!(store.event(event.id).await.expect("the event"), event);
}

pub(crate) async fn fires_are_answered_in_their_order(db: &Db) {
    let store = &*db.store;
    let schedules = (0..5).map(|n| interval(&format!("interval {n}"), n, at(300))).collect();
    let trigger = put(store, NewTrigger { schedules, ..new_trigger("clocks", "v1") }, at(0)).await;
    let ids = trigger.schedules.iter().map(|schedule| schedule.id);
    let times = [300, 299, 300, 301, 300];
    let planned: Vec<Fire> =
        ids.zip(times).rev().map(|(id, run_at)| fire(id, at(run_at), Some(at(600)))).collect();
    let fired = store.fire(&planned).await.expect("answers");
    let stored: Vec<bool> = fired.into_iter().map(|fired| fired == Fired::Stored).collect();
    assert_eq!(stored, [true, false, true, false, true]);
    assert_eq!(count_events(store).await, 3);
    let due = store.due_schedules(at(300), 10).await.expect("the two");
    // Made at 297 and 299, which their ids say.
    let left = [3, 1].map(|place: usize| Due { id: trigger.schedules[place].id, run_at: at(300) });
    assert_eq!(due, left);
}

pub(crate) async fn a_fire_for_another_time_does_nothing(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let before = schedule(store).await;
    assert_eq!(store.fire(&[fire(id, at(299), Some(at(600)))]).await.expect("an answer"), [Fired::Elsewhere]);
    let unknown = ScheduleId::at(at(0));
    assert_eq!(
        store.fire(&[fire(unknown, at(300), Some(at(600)))]).await.expect("an answer"),
        [Fired::Elsewhere]
    );
    assert_eq!((schedule(store).await, count_events(store).await), (before, 0));
}

pub(crate) async fn a_time_fires_once_for_ever(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    assert_eq!(store.fire(&[fire(id, at(300), Some(at(300)))]).await.expect("fired"), [Fired::Stored]);
    assert_eq!(store.fire(&[fire(id, at(300), Some(at(600)))]).await.expect("an answer"), [Fired::Elsewhere]);
    assert_eq!(count_events(store).await, 1);
    assert_eq!(schedule(store).await.next_run_at, Some(at(600)), "it is not stuck");
}

pub(crate) async fn old_fires_are_forgotten_unless_they_could_come_again(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let leadership = lead(store).await;
    let forget = async || {
        let dropped = store.drop_before(leadership, Stock::Fires, at(9999), 10).await;
        dropped.expect("a step").rows
    };
    store.fire(&[fire(id, at(300), Some(at(300)))]).await.expect("fired");
    assert_eq!(forget().await, 0, "that time is still the next one");
    let again = store.fire(&[fire(id, at(300), Some(at(600)))]).await;
    assert_eq!(again.expect("an answer"), [Fired::Elsewhere]);
    assert_eq!(forget().await, 1);
}

pub(crate) async fn ten_servers_fire_once(db: &Db) {
    let store = &*db.store;
    let id = scheduled(store).await;
    let same: Vec<[Fire; 1]> = (0..10).map(|_| [fire(id, at(300), Some(at(600)))]).collect();
    let fired = join_all(same.iter().map(|fire| store.fire(fire))).await;
    let stored = fired.into_iter().filter(|fired| matches!(fired.as_deref(), Ok([Fired::Stored]))).count();
    assert_eq!((stored, count_events(store).await), (1, 1));
}
