//! Cron lines and intervals fire on time.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    on_both,
    world::{Database, World},
};

on_both! {
    every_second_is_fired_once,
    a_run_that_would_overlap_is_skipped_and_says_why,
    runs_wait_for_each_other,
    every_time_that_passed_while_nothing_ran_is_made_up_for,
    the_next_fires_are_shown_on_their_own_clock,
}

async fn every_second_is_fired_once(database: Database) {
    let tick = |on: &str, name: &str| {
        format!("{on}\n\n[job]\ncmd = \"sh\"\nargs = [\"-c\", \"echo {name} >> $DIR/effects\"]\n")
    };
    let cron = tick("[on.cron]\nexpression = \"* * * * * *\"", "cron");
    let interval = tick("[on.interval]\nevery = \"1s\"", "interval");
    let world = World::dev(database, &[("cron", &cron), ("interval", &interval)]).await;
    let effects = world.effects_until(6).await;
    assert!(effects.iter().any(|line| line == "cron") && effects.iter().any(|line| line == "interval"));

    for name in ["cron", "interval"] {
        assert!(every_second(&world, name).await >= 2);
    }
}

/// Each fire stands for a time of its own, a whole second apart, and none was left out. Yields how many there are.
async fn every_second(world: &World, name: &str) -> usize {
    let mut times: Vec<jiff::Timestamp> = events(world, name, "schedule.fired")
        .await
        .iter()
        .map(|event| event["time"].as_str().expect("a time").parse().expect("a time"))
        .collect();
    times.sort_unstable();
    for pair in times.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]).as_millis(), 1000, "{name}: {times:?}");
    }
    times.len()
}

async fn events(world: &World, subject: &str, event_type: &str) -> Vec<Value> {
    let events = world.get(&format!("events?kind=schedule&type={event_type}&limit=500")).await;
    let events = events["items"].as_array().expect("a list");
    events.iter().filter(|event| event["subject"] == subject).cloned().collect()
}

/// Every second, and each run waits for the file `go`.
fn patient(overlap: &str) -> String {
    let script =
        "echo begin >> $DIR/effects; while [ ! -e $DIR/go ]; do sleep 0.05; done; echo end >> $DIR/effects";
    format!(
        "[on.interval]\nevery = \"1s\"\noverlap = {overlap:?}\n\n[job]\ncmd = \"sh\"\nargs = [\"-c\", {script:?}]\n"
    )
}

async fn a_run_that_would_overlap_is_skipped_and_says_why(database: Database) {
    let world = World::dev(database, &[("patient", &patient("skip"))]).await;
    let skipped = world
        .until("two skipped fires", async |world| {
            let skipped = events(world, "patient", "schedule.skipped").await;
            (skipped.len() >= 2).then_some(skipped)
        })
        .await;
    assert_eq!(world.effects(), ["begin"]);
    let (_, shown, _) = world.cli(&["event", "show", skipped[0]["id"].as_str().expect("an id")]).await;
    assert!(shown.contains("skipped") && shown.contains("has not ended"), "{shown}");
    std::fs::write(world.dir.path().join("go"), "").expect("written");
    world.effects_until(4).await;
}

async fn runs_wait_for_each_other(database: Database) {
    let world = World::dev(database, &[("patient", &patient("queue_all"))]).await;
    let waits = world
        .until("a run that waits for another", async |world| {
            world.tasks().await.into_iter().find(|task| task["queued"] == true)
        })
        .await;
    let (_, shown, _) = world.cli(&["task", "show", waits["id"].as_str().expect("an id")]).await;
    assert!(shown.contains("waits for the run of"), "{shown}");
    assert_eq!(world.effects(), ["begin"]);
    std::fs::write(world.dir.path().join("go"), "").expect("written");
    let effects = world.effects_until(6).await;
    for pair in effects.chunks_exact(2) {
        assert_eq!(pair, ["begin", "end"]);
    }
}

async fn every_time_that_passed_while_nothing_ran_is_made_up_for(database: Database) {
    let text = "[on.interval]\nevery = \"1s\"\nmissed = \"all\"\n\n[job]\ncmd = \"sh\"\nargs = [\"-c\", \"echo x >> $DIR/effects\"]\n";
    let mut world = World::dev(database, &[("beat", text)]).await;
    world.effects_until(1).await;
    world.server.kill().await;
    // Longer than what counts as busy.
    let away = Instant::now();
    world.until("an absence", async |_| (away.elapsed() > Duration::from_secs(7)).then_some(())).await;
    world.restart().await;
    world
        .until("all are made up for", async |world| {
            (events(world, "beat", "schedule.fired").await.len() >= 9).then_some(())
        })
        .await;
    every_second(&world, "beat").await;
}

async fn the_next_fires_are_shown_on_their_own_clock(database: Database) {
    // The last Sunday of March is the one on which 02:30 does not exist.
    let text = "[[on.cron]]\nexpression = \"30 2 * 3 SUN\"\ntimezone = \"Europe/Berlin\"\n\n[[on.cron]]\nexpression = \"0 12 * * *\"\nblackout = [{ from = \"11:00\", to = \"13:00\" }]\n\n[job]\ncmd = \"true\"\n";
    let world = World::dev(database, &[("nightly", text)]).await;
    let (code, shown, _) = world.cli(&["schedule", "next", "nightly", "--count", "6"]).await;
    assert_eq!(code, Some(0));
    assert!(shown.contains("shifted out of the gap: 02:30:00 does not exist on that day"), "{shown}");
    assert!(shown.contains("T03:00:00+02:00 Europe/Berlin"), "{shown}");
    assert!(shown.contains("does not run"), "{shown}");
    let (_, list, _) = world.cli(&["schedule", "list", "--trigger", "nightly", "--output", "json"]).await;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    let id = list["items"][0]["id"].as_str().expect("an id");
    let (_, next, _) = world.cli(&["schedule", "next", id, "--output", "json"]).await;
    let next: Value = serde_json::from_str(&next).expect("JSON");
    assert_eq!(next[0]["items"].as_array().map(Vec::len), Some(5));
    let (code, _, said) = world.cli(&["schedule", "next", "nothing"]).await;
    assert!(code == Some(1) && said.contains("schedule list"), "{said}");
}
