//! Clocks that the test drives, on a real store.

use hetuflow_core::{
    event::{Event, SourceKind},
    task::Task,
};
use hetuflow_store::{EventFilter, Page, TaskFilter};

mod daemon;
mod deadline;
mod policy;

use crate::{scheduler, world::World};

const JOB: &str = "[job]\ncmd = \"true\"\n";

/// What fired so far, oldest first.
async fn fired(world: &World) -> Vec<String> {
    events(world, "schedule.fired").await.into_iter().map(|(time, _)| time).collect()
}

/// What was skipped so far, with the reasons.
async fn skipped(world: &World) -> Vec<(String, String)> {
    let events = events(world, "schedule.skipped").await;
    events.into_iter().map(|(time, reason)| (time, reason.expect("a reason"))).collect()
}

async fn events(world: &World, event_type: &str) -> Vec<(String, Option<String>)> {
    let filter = EventFilter {
        kind: Some(SourceKind::Schedule),
        event_type: Some(event_type.to_owned()),
        ..EventFilter::default()
    };
    let page = Page { before: None, limit: 500 };
    let mut events = world.state.store.events(&filter, page).await.expect("events");
    events.sort_by_key(|event| event.time);
    let told =
        |event: Event| (event.time.strftime("%d %H:%M:%S").to_string(), event.decisions[0].reason.clone());
    events.into_iter().map(told).collect()
}

/// Newest first.
async fn tasks(world: &World) -> Vec<Task> {
    world.state.store.tasks(&TaskFilter::default(), Page::default()).await.expect("tasks")
}

/// Ticks until nothing is due.
async fn tick(world: &World) {
    while scheduler::tick(&world.state).await.expect("a tick").moved > 0 {}
}

#[tokio::test]
async fn each_time_fires_once() {
    let mut world = World::start().await;
    world.trigger("nightly", &format!("[on.cron]\nexpression = \"*/5 * * * *\"\n{JOB}")).await;
    tick(&world).await;
    assert!(fired(&world).await.is_empty());
    world.advance(300);
    tick(&world).await;
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 10:05:00"]);
    world.advance(299);
    tick(&world).await;
    world.advance(1);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 10:05:00", "21 10:10:00"]);
    let looked = scheduler::tick(&world.state).await.expect("a tick");
    assert_eq!(looked.next.map(|next| next.to_string()).as_deref(), Some("2026-11-21T10:15:00Z"));
}

#[tokio::test]
async fn the_event_says_what_fired() {
    let mut world = World::start().await;
    world.trigger("beat", &format!("[on.interval]\nevery = \"30s\"\n{JOB}")).await;
    world.advance(31);
    tick(&world).await;
    let events = world.state.store.events(&EventFilter::default(), Page::default()).await.expect("events");
    let event = world.state.store.event(events[0].id).await.expect("the event");
    assert_eq!(event.source, "/schedules/default/beat/interval-1");
    assert_eq!(event.event_type, "schedule.fired");
    assert_eq!(event.subject.as_deref(), Some("beat"));
    assert_eq!(event.body, r#"{"schedule":"interval 1","scheduled_at":"2026-11-21T10:00:30Z"}"#);
    let tasks = tasks(&world).await;
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].event_id, event.id);
    assert_eq!(tasks[0].run_at, event.time);
    assert!(tasks[0].schedule_id.is_some());
}

#[tokio::test]
async fn a_busy_server_fires_every_time() {
    let mut world = World::start().await;
    world.trigger("beat", &format!("[on.interval]\nevery = \"1s\"\n{JOB}")).await;
    world.advance(3);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 10:00:01", "21 10:00:02", "21 10:00:03"]);
}

#[tokio::test]
async fn the_latest_of_missed_times_stands_for_all() {
    let mut world = World::start().await;
    world.trigger("beat", &format!("[on.interval]\nevery = \"1s\"\n{JOB}")).await;
    world.trigger("daily", &format!("[on.cron]\nexpression = \"0 12 * * *\"\n{JOB}")).await;
    // A week and a bit.
    world.advance(7 * 86_400 + 3600);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["27 12:00:00", "28 11:00:00"]);
    world.advance(1);
    tick(&world).await;
    assert_eq!(fired(&world).await.last().map(String::as_str), Some("28 11:00:01"));
}

#[tokio::test]
async fn skipped_times_do_not_run() {
    let mut world = World::start().await;
    let text = format!("[on.cron]\nexpression = \"0 * * * *\"\nmissed = \"skip\"\n{JOB}");
    world.trigger("hourly", &text).await;
    world.advance(2 * 3600 + 61);
    tick(&world).await;
    assert!(fired(&world).await.is_empty());
    // A little late is not missed.
    let told = |time: &str, reason: &str| (time.to_owned(), reason.to_owned());
    let skips = [
        told(
            "21 11:00:00",
            "missed, as were all times until 2026-11-21T12:00:00Z: only that one is looked at",
        ),
        told("21 12:00:00", "missed by 1m 1s, and missed = \"skip\" makes up for nothing"),
    ];
    assert_eq!(skipped(&world).await, skips);
    world.advance(3600 - 61 + 60);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 13:00:00"]);
}

#[tokio::test]
async fn the_loop_follows_new_triggers_and_the_clock() {
    let mut world = World::start().await;
    let running = tokio::spawn(scheduler::run(world.state.clone(), world.stop.clone()));
    let mut tasks = world.state.store.task_changes();
    world.trigger("beat", &format!("[on.interval]\nevery = \"30s\"\n{JOB}")).await;
    world.advance(30);
    // The swap of the set wakes the loop; the wall clock says the rest.
    world.trigger("other", &format!("[on.interval]\nevery = \"1h\"\n{JOB}")).await;
    while fired(&world).await.is_empty() {
        tasks.changed().await.expect("the store lives");
    }
    world.stop.cancel();
    running.await.expect("it ends");
}
