//! Cron lines and intervals fire on time.

use crate::{
    on_both,
    world::{Database, World},
};

on_both! { every_second_is_fired_once }

async fn every_second_is_fired_once(database: Database) {
    let tick = |on: &str, name: &str| {
        format!("{on}\n\n[job]\ncmd = \"sh\"\nargs = [\"-c\", \"echo {name} >> $DIR/effects\"]\n")
    };
    let cron = tick("[on.cron]\nexpression = \"* * * * * *\"", "cron");
    let interval = tick("[on.interval]\nevery = \"1s\"", "interval");
    let world = World::dev(database, &[("cron", &cron), ("interval", &interval)]).await;
    let effects = world.effects_until(6).await;
    assert!(effects.iter().any(|line| line == "cron") && effects.iter().any(|line| line == "interval"));

    // Each fire stands for a time of its own, a whole second apart, and none was left out.
    let events = world.get("events?kind=schedule&limit=500").await;
    for name in ["cron", "interval"] {
        let mut times: Vec<jiff::Timestamp> = events["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|event| event["subject"] == name)
            .map(|event| event["time"].as_str().expect("a time").parse().expect("a time"))
            .collect();
        times.sort_unstable();
        assert!(times.len() >= 2, "{name}: {times:?}");
        for pair in times.windows(2) {
            assert_eq!(pair[1].duration_since(pair[0]).as_millis(), 1000, "{name}: {times:?}");
        }
    }
}
