//! Files that must have come by a time.

use hetuflow_core::{
    event::{Event, FileFacts, SourceKind},
    protocol::{FileEvent, FromAgent, ToAgent, WatchHealth, WatchState},
};
use hetuflow_store::{EventFilter, Page};
use serde_json::Value;

use super::{JOB, tasks, tick};
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
    let filter = EventFilter { event_type: Some("file.missing".to_owned()), ..EventFilter::default() };
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
    let batch = names
        .iter()
        .map(|name| FileEvent {
            key: "default/balance".to_owned(),
            dedupe: (*name).to_owned(),
            facts: FileFacts { path: format!("/in/{name}"), ..FileFacts::default() },
            seen_at: world.now(),
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
    let state =
        WatchState { key: "default/balance".to_owned(), health: WatchHealth::Live, ..WatchState::default() };
    agent.say(FromAgent::Watch(state)).await;
    world.until("a", |online| online.watches.len() == 1).await;
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
