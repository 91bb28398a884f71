//! Why a task waits, told the same whichever server its agents are connected to.

use std::time::Duration;

use hetuflow_core::{
    id::{AgentId, JournalId, ServerId},
    protocol::{Hello, VERSION},
};
use hetuflow_store::{LowWater, Progress, Slot};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::World;

const TRAIN: &str = r#"
[on.event]
type = "train"

[job]
cmd = "true"
labels = { gpu = "a100" }
"#;

fn now() -> Timestamp {
    hetuflow_core::Clock::system().now()
}

/// An agent that says hello to another server of the same database.
async fn elsewhere(world: &World, id: &str, label: (&str, &str), lease: Duration) -> Slot {
    let hello = Hello {
        protocol: VERSION,
        agent_id: AgentId::new(id).expect("a name"),
        journal_id: JournalId::at(now()),
        journal_epoch: 1,
        hostname: id.to_owned(),
        version: "0.1.0".to_owned(),
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        slots: 1,
        held: Vec::new(),
    };
    let store = &world.server.state.store;
    let session =
        store.open_session((&hello).into(), ServerId::at(now()), lease, now(), 0.5).await.expect("a session");
    Slot { agent_id: hello.agent_id, session_epoch: session.epoch }
}

async fn task(world: &World) -> String {
    let (_, receipt) = world.post("events", json!({ "type": "train" })).await;
    receipt["task_ids"][0].as_str().expect("one task").to_owned()
}

async fn waiting(world: &World, task: &str) -> Value {
    world.get(&format!("tasks/{task}")).await["waiting"].clone()
}

#[tokio::test]
async fn agents_of_other_servers_count() {
    let world = World::new().await;
    world.write_trigger("train", TRAIN);
    world.server.state.triggers.subscribe().wait_for(|set| set.live.len() == 2).await.expect("loaded");
    let (first, second) = (task(&world).await, task(&world).await);
    assert_eq!(waiting(&world, &first).await["reason"], "no_agent");

    let hour = Duration::from_hours(1);
    elsewhere(&world, "web-1", ("role", "web"), hour).await;
    let why = waiting(&world, &first).await;
    assert_eq!(why["text"], "no agent has gpu=a100; agents: web-1 (role=web)");
    assert_eq!(why["reason"], "no_matching_agent");

    let slot = elsewhere(&world, "gpu-1", ("gpu", "a100"), hour).await;
    assert_eq!(waiting(&world, &first).await["reason"], "about_to_start");
    let store = &world.server.state.store;
    let lane = store.waiting_lanes(&[]).await.expect("lanes").remove(0);
    let claimed = store
        .claim(lane.id, LowWater::START, std::slice::from_ref(&slot), now())
        .await
        .expect("claimed")
        .remove(0);
    let given = claimed.task.id.to_string();
    let other = if given == first { &second } else { &first };
    let why = waiting(&world, &given).await;
    assert_eq!(why["reason"], "unconfirmed");
    assert!(why["text"].as_str().expect("text").contains("given to agent gpu-1"), "{why}");
    store.progress(&[Progress { lease: claimed.lease, started_at: Some(now()) }]).await.expect("started");
    assert_eq!(waiting(&world, &given).await, Value::Null);

    let why = waiting(&world, other).await;
    assert_eq!(why["reason"], "agents_full");
    let text = why["text"].as_str().expect("text");
    let beginning =
        format!("the only matching agent takes nothing more: gpu-1 (1/1 slots, longest task {given}");
    assert!(text.starts_with(&beginning), "{text}");
    let listed = world.get("tasks?status=pending").await["items"][0]["waiting"].clone();
    assert_eq!(listed["reason"], "agents_full", "{listed}");

    store.close_session(&slot.agent_id, slot.session_epoch).await.expect("closed");
    assert_eq!(waiting(&world, other).await["reason"], "agents_offline");
    assert_eq!(waiting(&world, &given).await["reason"], "agent_away");
}

#[tokio::test]
async fn a_blackout_is_named() {
    let world = World::new().await;
    let clock = |hours: i64| {
        let time = now() + jiff::SignedDuration::from_hours(hours);
        time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M").to_string()
    };
    let quiet = format!(
        "[on.interval]\nevery = \"1s\"\nduring_blackout = \"delay\"\n\
         blackout = [{{ from = \"{}\", to = \"{}\", timezone = \"UTC\" }}]\n\n[job]\ncmd = \"true\"\n",
        clock(-2),
        clock(2),
    );
    world.write_trigger("quiet", &quiet);
    let why = world.until("tasks?trigger=quiet", |list| {
        let waiting = &list["items"][0]["waiting"];
        waiting.is_object().then(|| waiting.clone())
    });
    let why = why.await;
    assert_eq!(why["reason"], "blackout", "{why}");
    assert!(why["text"].as_str().expect("text").starts_with("its schedule has a blackout until"), "{why}");
    assert!(why["until"].is_string(), "{why}");
}
