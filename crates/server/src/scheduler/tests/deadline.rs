//! Files that must have come by a time.

use hetuflow_core::{
    event::{Event, FileFacts, SourceKind},
    protocol::{FileEvent, FromAgent, ToAgent, WatchHealth, WatchState},
};
use hetuflow_store::{EventFilter, Page};
use jiff::Timestamp;
use serde_json::Value;

use super::{JOB, tasks, tick};
use crate::scheduler::late;
use crate::world::{TestAgent, World};

const BALANCE: &str = r#"
[on.file]
paths  = ["/in/*.csv"]
[[on.file.deadline]]
by     = "30 10 * * *"
count  = 2
window = "20m"
grace  = "1m"
"#;

const ALERT: &str = "[on.event]\ntype = \"file.missing\"\nwhen = 'body.state == \"missing\"'\n";

async fn missing(world: &World) -> Vec<(Event, Value)> {
    told(world, "file.missing").await
}

async fn told(world: &World, event_type: &str) -> Vec<(Event, Value)> {
    let filter = EventFilter { event_type: Some(event_type.to_owned()), ..EventFilter::default() };
    let mut found = Vec::new();
    for event in world.state.store.events(&filter, Page::default()).await.expect("events") {
        let event = world.state.store.event(event.id).await.expect("an event");
        assert_eq!(event.kind, SourceKind::Internal);
        let body = serde_json::from_slice(&event.body).expect("JSON");
        found.push((event, body));
    }
    found
}

async fn report(world: &World, agent: &mut TestAgent, names: &[&str]) {
    report_seen(agent, names, world.now()).await;
}

async fn report_seen(agent: &mut TestAgent, names: &[&str], seen_at: Timestamp) {
    let batch = names
        .iter()
        .map(|name| FileEvent {
            key: "default/balance".to_owned(),
            dedupe: (*name).to_owned(),
            facts: FileFacts { path: format!("/in/{name}"), ..FileFacts::default() },
            members: Vec::new(),
            seen_at,
        })
        .collect();
    agent.say(FromAgent::Files { batch }).await;
    loop {
        if let ToAgent::FileAck { .. } = agent.hear().await {
            return;
        }
    }
}

async fn watches(world: &World, agent: &mut TestAgent) {
    let watermark = Some(world.now());
    let key = "default/balance".to_owned();
    let state = WatchState { key, health: WatchHealth::Live, watermark, ..WatchState::default() };
    agent.say(FromAgent::Watch(state)).await;
    world.until("a", |online| online.watches.values().any(|watch| watch.watermark == watermark)).await;
}

/// The states of what was told of missed deadlines, in the order in which they follow each other.
async fn followed(world: &World) -> Vec<String> {
    late::look(&world.state).await.expect("a look");
    let mut all = missing(world).await;
    all.extend(told(world, "file.late").await);
    let states = ["unknown", "missing", "in_time", "late"];
    all.sort_by_key(|(event, body)| (event.time, states.iter().position(|state| body["state"] == *state)));
    all.iter()
        .map(|(event, body)| format!("{} {}", event.event_type, body["state"].as_str().unwrap_or("")))
        .collect()
}

#[tokio::test]
async fn too_few_files_are_missing_and_that_is_told_once() {
    let mut world = World::start().await;
    world.trigger("balance", &format!("{BALANCE}{JOB}")).await;
    world.trigger("alert", &format!("{ALERT}{JOB}")).await;
    let mut agent = world.agent("a", &[]).await;
    watches(&world, &mut agent).await;
    // Before the window.
    report(&world, &mut agent, &["old.csv"]).await;
    world.advance(11 * 60);
    report(&world, &mut agent, &["a.csv"]).await;
    world.advance(19 * 60);
    tick(&world).await;
    assert!(missing(&world).await.is_empty(), "the time of grace is not over");
    world.advance(60);
    watches(&world, &mut agent).await;
    tick(&world).await;
    tick(&world).await;
    let told = missing(&world).await;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].1["state"], &told[0].1["found"]), (&"missing".into(), &1.into()));
    assert_eq!(told[0].1["agents"][0]["watch"], "live");
    // One for each of the two files, and the alert.
    assert_eq!(tasks(&world).await.len(), 3);

    world.advance(24 * 3600 - 10 * 60);
    report(&world, &mut agent, &["b.csv", "c.csv"]).await;
    world.advance(10 * 60);
    tick(&world).await;
    assert_eq!(missing(&world).await.len(), 1, "enough have come");
}

#[tokio::test]
async fn what_nobody_watched_for_is_unknown() {
    let mut world = World::start().await;
    let named = BALANCE.replace("count  = 2", "name = \"day-{date:%d}.csv\"");
    world.trigger("balance", &format!("{named}{JOB}")).await;
    world.trigger("alert", &format!("{ALERT}{JOB}")).await;
    world.advance(31 * 60);
    tick(&world).await;
    let told = missing(&world).await;
    assert_eq!((&told[0].1["state"], &told[0].1["name"]), (&"unknown".into(), &"day-21.csv".into()));
    assert!(tasks(&world).await.is_empty());
}

#[tokio::test]
async fn what_comes_after_the_deadline_is_late_and_told_once() {
    let mut world = World::start().await;
    world.trigger("balance", &format!("{BALANCE}{JOB}")).await;
    let mut agent = world.agent("a", &[]).await;
    world.advance(25 * 60);
    report(&world, &mut agent, &["a.csv"]).await;
    world.advance(6 * 60);
    watches(&world, &mut agent).await;
    tick(&world).await;
    assert_eq!(followed(&world).await, ["file.missing missing"]);
    world.advance(60);
    report(&world, &mut agent, &["b.csv"]).await;
    for _ in 0..2 {
        assert_eq!(followed(&world).await, ["file.missing missing", "file.late late"]);
    }
    let late = told(&world, "file.late").await;
    assert_eq!((&late[0].1["found"], &late[0].0.time), (&2.into(), &missing(&world).await[0].0.time));
}

#[tokio::test]
async fn what_is_unknown_is_settled_once_everything_is_told() {
    let mut world = World::start().await;
    world.trigger("balance", &format!("{BALANCE}{JOB}")).await;
    let mut agent = world.agent("a", &[]).await;
    watches(&world, &mut agent).await;
    world.advance(20 * 60);
    report(&world, &mut agent, &["a.csv"]).await;
    // It has seen another one in time, and has not told: its watermark is older than the deadline.
    let seen_at = world.now();
    world.advance(11 * 60);
    tick(&world).await;
    assert_eq!(followed(&world).await, ["file.missing unknown"]);
    report_seen(&mut agent, &["b.csv"], seen_at).await;
    assert_eq!(followed(&world).await, ["file.missing unknown", "file.late in_time"]);

    // The next day nothing comes at all, and the agent says so later.
    world.advance(24 * 3600);
    tick(&world).await;
    assert_eq!(followed(&world).await.len(), 3);
    watches(&world, &mut agent).await;
    for _ in 0..2 {
        let all = followed(&world).await;
        assert_eq!(all[2..], ["file.missing unknown", "file.missing missing"]);
    }
}

#[tokio::test]
async fn a_warning_comes_before_and_excepted_days_have_none() {
    let mut world = World::start().await;
    let days = "warn = \"10m\"\nexcept = [\"2026-11-22\"]\ncalendar = \"bank\"";
    let warned = BALANCE.replace("count  = 2", days);
    world.trigger("balance", &format!("{warned}{JOB}\n[calendars.bank]\ndays = [\"11-23\"]\n")).await;
    let mut agent = world.agent("a", &[]).await;
    let today = world.now().strftime("%Y-%m-%d").to_string();
    world.advance(19 * 60);
    tick(&world).await;
    assert!(told(&world, "file.due").await.is_empty());
    world.advance(60);
    tick(&world).await;
    let due = told(&world, "file.due").await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].1["state"], "due");
    assert_eq!(due[0].0.time.strftime("%Y-%m-%d %H:%M").to_string(), format!("{today} 10:30"));
    report(&world, &mut agent, &["a.csv"]).await;
    world.advance(11 * 60);
    tick(&world).await;
    assert!(missing(&world).await.is_empty());
    for why in ["an excepted day", "a day of the calendar"] {
        world.advance(24 * 3600);
        tick(&world).await;
        assert_eq!((told(&world, "file.due").await.len(), missing(&world).await.len()), (1, 0), "{why}");
    }
    world.advance(24 * 3600);
    tick(&world).await;
    assert_eq!((told(&world, "file.due").await.len(), missing(&world).await.len()), (2, 1));
}

/// At the time of the next deadline the grace of the one before is not over.
#[tokio::test]
async fn a_grace_may_be_as_long_as_the_pause_between_deadlines() {
    let mut world = World::start().await;
    let often = BALANCE.replace("30 10 * * *", "*/10 * * * *").replace("\"1m\"", "\"10m\"");
    world.trigger("balance", &format!("{often}{JOB}")).await;
    let mut agent = world.agent("a", &[]).await;
    for _ in 0..4 {
        world.advance(10 * 60);
        watches(&world, &mut agent).await;
        tick(&world).await;
    }
    assert_eq!(missing(&world).await.len(), 3);
    assert!(told(&world, "schedule.skipped").await.is_empty());
}

/// More than a page of other files came after the one that is waited for.
#[tokio::test]
async fn an_expected_file_is_found_behind_many_others() {
    let mut world = World::start().await;
    let named = BALANCE.replace("count  = 2", "name   = \"a.csv\"");
    world.trigger("balance", &format!("{named}{JOB}")).await;
    let mut agent = world.agent("a", &[]).await;
    world.advance(11 * 60);
    report(&world, &mut agent, &["a.csv"]).await;
    world.advance(1);
    let others: Vec<String> = (0..600).map(|n| format!("{n}.csv")).collect();
    for some in others.chunks(100) {
        report(&world, &mut agent, &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    world.advance(20 * 60);
    watches(&world, &mut agent).await;
    tick(&world).await;
    assert!(missing(&world).await.is_empty());
}
