//! Missed times, blackouts, jitter and single times.

use std::collections::BTreeSet;

use hetuflow_store::Queue;

use super::{JOB, fired, skipped, tasks, tick};
use crate::{scheduler, world::World};

const DARK: &str = "blackout = [{ from = \"12:00\", to = \"13:30\" }]\n";
const DELAY: &str = "during_blackout = \"delay\"\n";

fn cron(expression: &str, rest: &str) -> String {
    format!("[on.cron]\nexpression = \"{expression}\"\n{rest}{JOB}")
}

#[tokio::test]
async fn every_missed_time_within_the_window_runs() {
    let mut world = World::start().await;
    let text = cron("0 * * * *", "missed = \"all\"\nmissed_window = \"3h\"\n");
    world.trigger("hourly", &text).await;
    // From 10:00 to 20:30.
    world.advance(10 * 3600 + 1800);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 18:00:00", "21 19:00:00", "21 20:00:00"]);
    let told = ("21 11:00:00".to_owned(), "missed by 9h 30m, and missed_window is 3h".to_owned());
    assert_eq!(skipped(&world).await, [told]);
    world.advance(1800);
    tick(&world).await;
    assert_eq!(fired(&world).await.last().map(String::as_str), Some("21 21:00:00"));
}

#[tokio::test]
async fn what_was_missed_for_too_long_does_not_run() {
    let mut world = World::start().await;
    world.trigger("daily", &cron("0 12 * * *", "missed_window = \"1h\"\n")).await;
    world.advance(4 * 3600);
    tick(&world).await;
    assert!(fired(&world).await.is_empty());
    world.advance(22 * 3600 + 3000);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["22 12:00:00"]);
}

#[tokio::test]
async fn nothing_runs_in_a_blackout() {
    let mut world = World::start().await;
    world.trigger("skips", &cron("*/30 * * * *", DARK)).await;
    for _ in 0..9 {
        world.advance(1800);
        tick(&world).await;
    }
    let ran = ["21 10:30:00", "21 11:00:00", "21 11:30:00", "21 13:30:00", "21 14:00:00", "21 14:30:00"];
    assert_eq!(fired(&world).await, ran);
    let told = ("21 12:00:00".to_owned(), "blackout until 2026-11-21T13:30:00Z".to_owned());
    assert_eq!(skipped(&world).await, [told]);
}

#[tokio::test]
async fn one_run_at_the_end_stands_for_a_blackout() {
    let mut world = World::start().await;
    world.trigger("waits", &cron("0,20,40 * * * *", &format!("{DARK}{DELAY}"))).await;
    for _ in 0..24 {
        world.advance(600);
        tick(&world).await;
    }
    let ran = fired(&world).await;
    assert_eq!(ran[4..], ["21 11:40:00", "21 12:00:00", "21 13:40:00", "21 14:00:00"]);
    let tasks = tasks(&world).await;
    let starts: Vec<String> = tasks.iter().map(|task| task.run_at.strftime("%H:%M").to_string()).collect();
    assert_eq!(starts[..4], ["14:00", "13:40", "13:30", "11:40"]);
    assert!(skipped(&world).await.is_empty());
}

#[tokio::test]
async fn what_is_made_up_for_keeps_out_of_a_blackout() {
    let mut world = World::start().await;
    world.trigger("skips", &cron("0 11 * * *", DARK)).await;
    world.trigger("waits", &cron("0 11 * * *", &format!("{DARK}{DELAY}"))).await;
    world.advance(9000);
    tick(&world).await;
    let tasks = tasks(&world).await;
    let starts: Vec<_> = tasks.iter().map(|task| (task.trigger.as_str(), task.run_at.to_string())).collect();
    assert_eq!(starts, [("waits", "2026-11-21T13:30:00Z".to_owned())]);
    assert_eq!(skipped(&world).await.len(), 1);
}

#[tokio::test]
async fn once_fires_once() {
    let mut world = World::start().await;
    world.trigger("once", &format!("[on.once]\nat = \"2026-11-21T11:00:00\"\n{JOB}")).await;
    world.trigger("past", &format!("[on.once]\nat = \"2026-11-21T09:00:00\"\n{JOB}")).await;
    for _ in 0..4 {
        tick(&world).await;
        world.advance(1800);
    }
    assert_eq!(fired(&world).await, ["21 11:00:00"]);
    assert_eq!(scheduler::tick(&world.state).await.expect("a tick").next, None);
}

#[tokio::test]
async fn jitter_moves_the_run_and_not_the_time() {
    let mut world = World::start().await;
    world.trigger("beat", &format!("[on.interval]\nevery = \"1m\"\njitter = \"50s\"\n{JOB}")).await;
    for _ in 0..20 {
        world.advance(60);
        tick(&world).await;
    }
    let tasks = tasks(&world).await;
    let mut late = BTreeSet::new();
    for task in &tasks {
        let event = world.state.store.event(task.event_id).await.expect("the event");
        assert_eq!(event.time.as_second() % 60, 0);
        late.insert(task.run_at.duration_since(event.time).as_secs());
    }
    assert_eq!(tasks.len(), 20);
    assert!(late.len() > 5 && late.iter().all(|late| (0..=50).contains(late)), "{late:?}");
}

#[tokio::test]
async fn a_queued_run_is_let_go_when_the_one_before_has_ended() {
    let mut world = World::start().await;
    world.trigger("beat", &format!("[on.interval]\nevery = \"1m\"\noverlap = \"queue_one\"\n{JOB}")).await;
    for _ in 0..3 {
        world.advance(60);
        tick(&world).await;
    }
    let [second, first] = &tasks(&world).await[..] else { panic!("two of three") };
    assert_eq!((first.queued, second.queued), (false, true));
    assert_eq!(skipped(&world).await.len(), 1);
    assert_eq!(scheduler::tick(&world.state).await.expect("a tick").queue, Queue::Waiting);
    // The loop hears of the end by itself.
    let running = tokio::spawn(scheduler::run(world.state.clone(), world.stop.clone()));
    let mut changes = world.state.store.task_changes();
    world.state.store.cancel(first.id, world.now()).await.expect("cancelled");
    while world.state.store.task(second.id).await.expect("a task").queued {
        changes.changed().await.expect("the store lives");
    }
    world.stop.cancel();
    running.await.expect("it ends");
}
