//! Files that count: one number after the other, over gaps and restarts.

use crate::world::World;

fn source(more: &str) -> String {
    format!(
        "paths = [\"in/*.csv\"]\nsettle = \"0s\"\ncapture = '^(?<site>[a-z]+)(?<seq>[0-9]+)'\n\
         order = \"capture:seq\"\nsequence = {{ group_by = \"capture:site\", {more} }}"
    )
}

async fn held(world: &World, count: u64) {
    world.state(|state| state.settling == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_waits_for_the_numbers_before_it_also_over_a_restart() {
    let mut world = World::new(&source("gap_timeout = \"1h\""));
    world.write("in/sub/keep", "");
    world.start().await;
    world.write("in/a1.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a1.csv 1"]);
    for name in ["a4", "a3", "b7"] {
        world.write(&format!("in/{name}.csv"), "1");
    }
    // Another group counts for itself.
    assert_eq!(world.told(1).await, ["arrived in/b7.csv 1"]);
    held(&world, 2).await;
    world.stop().await;
    world.start().await;
    held(&world, 2).await;
    world.write("in/a2.csv", "1");
    let told = world.told_in_order(3).await;
    assert_eq!(told, ["arrived in/a2.csv 1", "arrived in/a3.csv 1", "arrived in/a4.csv 1"]);
    // What has been told before is no gap: another version, and a late one.
    world.write("in/a3.csv", "22");
    world.write("in/a0.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/a0.csv 1", "arrived in/a3.csv 2"]);
    world.write("in/a5.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a5.csv 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_lasts_is_told_and_passed() {
    let mut world = World::new(&source("gap_timeout = \"1ms\""));
    world.write("in/sub/keep", "");
    world.start().await;
    world.write("in/a1.csv", "1");
    world.events(1).await;
    world.write("in/a3.csv", "1");
    let why = "number 2 comes before it and is missing";
    let told = world.told_in_order(2).await;
    assert_eq!(told, [format!("stuck in/a3.csv 1 {why}"), "arrived in/a3.csv 1".to_owned()]);
    // It comes after all, and those after it go on.
    world.write("in/a2.csv", "1");
    world.events(1).await;
    world.write("in/a4.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a4.csv 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_may_hold_for_good() {
    let mut world = World::new(&source("gap_timeout = \"1ms\", on_timeout = \"hold\""));
    world.write("in/sub/keep", "");
    world.start().await;
    world.write("in/a1.csv", "1");
    world.events(1).await;
    world.write("in/a4.csv", "1");
    let why = "number 2 comes before it and is missing";
    assert_eq!(world.told(1).await, [format!("stuck in/a4.csv 1 {why}")]);
    world.state(|state| state.stuck == 1).await;
    for name in ["a2", "a3"] {
        world.write(&format!("in/{name}.csv"), "1");
    }
    let mut told = world.told_in_order(3).await;
    told.retain(|one| one.starts_with("arrived"));
    assert_eq!(told, ["arrived in/a2.csv 1", "arrived in/a3.csv 1", "arrived in/a4.csv 1"]);
}

/// It goes on with the lowest that is held, also where a higher one has waited for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_is_passed_sets_all_behind_it_free() {
    let mut world = World::new(&source("gap_timeout = \"3s\""));
    world.write("in/sub/keep", "");
    world.start().await;
    world.write("in/a1.csv", "1");
    world.events(1).await;
    // Told by another trigger when half of that time is over.
    world
        .set_beside("paths = [\"in/*.csv\"]\nsettle = \"0s\"\nmin_age = \"1500ms\"\ninitial = \"ignore\"")
        .await;
    world.write("in/a5.csv", "1");
    world.events(1).await;
    world.write("in/a3.csv", "1");
    let stuck = "stuck in/a5.csv 1 number 2 comes before it and is missing";
    let told = world.told(4).await;
    assert_eq!(told, ["arrived in/a3.csv 1", "arrived in/a3.csv 1", "arrived in/a5.csv 1", stuck]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_while_nothing_was_counted_is_no_gap() {
    let hold = source("gap_timeout = \"1ms\", on_timeout = \"hold\"");
    let mut world = World::new(&hold);
    world.write("in/sub/keep", "");
    world.start().await;
    world.write("in/a1.csv", "1");
    world.events(1).await;
    world.edit("paths = [\"in/*.csv\"]\nsettle = \"0s\"").await;
    world.write("in/a2.csv", "1");
    world.events(1).await;
    world.edit(&hold).await;
    world.write("in/a3.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a3.csv 1"]);
    world.stop().await;
    world.start().await;
    world.write("in/a4.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a4.csv 1"]);
}
