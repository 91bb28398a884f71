//! Many files at once, and the bounds that hold then.

use std::{collections::BTreeSet, fs};

use crate::world::World;
use hetuflow_core::protocol::FileEvent;

fn paths(events: &[FileEvent]) -> BTreeSet<&str> {
    events.iter().map(|event| event.facts.path.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_files_at_once() {
    let mut world = World::new(r#"paths = ["in/*.csv"]"#);
    world.write("in/old.csv", "1");
    world.start().await;
    for number in 0..200 {
        world.write(&format!("in/{number}.csv"), "1");
    }
    let events = world.events(200).await;
    assert_eq!(paths(&events).len(), 200);
}

/// The recursive mode of `notify` loses up to 60 % here.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_new_directories_with_ten_files_each() {
    let mut world = World::new(r#"paths = ["in/**/*.csv"]"#);
    fs::create_dir(world.path("in")).expect("a folder");
    world.start().await;
    for directory in 0..1000 {
        fs::create_dir(world.path(&format!("in/{directory}"))).expect("a folder");
        for file in 0..10 {
            fs::write(world.path(&format!("in/{directory}/{file}.csv")), "1").expect("written");
        }
    }
    let events = world.events(10_000).await;
    assert_eq!(paths(&events).len(), 10_000);
}

/// What does not fit into the outbox waits on disk until there is room, also over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn more_files_than_the_outbox_holds() {
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"50ms\"");
    fs::create_dir(world.path("in")).expect("a folder");
    world.start().await;
    for number in 0..12_000 {
        fs::write(world.path(&format!("in/{number}.csv")), "1").expect("written");
    }
    let first = world.events_of_many(10_000).await;
    assert_eq!(first.len(), 10_000);
    world.stop().await;
    world.start().await;
    world.acknowledge().await;
    let rest = world.events_of_many(2000).await;
    let all: BTreeSet<&str> = paths(&first).union(&paths(&rest)).copied().collect();
    assert_eq!((all.len(), rest.len()), (12_000, 2000));
}

/// Two sources of one trigger see the same file, and it is one event.
#[tokio::test(flavor = "multi_thread")]
async fn sources_of_one_trigger_that_overlap() {
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"50ms\"");
    fs::create_dir(world.path("in")).expect("a folder");
    world.start().await;
    world.set_twice().await;
    world.write("in/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a.csv 1"]);
    world.write("in/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_line_feed_and_a_command_is_a_name() {
    let mut world = World::new("paths = [\"in/*\"]\nsettle = \"50ms\"");
    fs::create_dir(world.path("in")).expect("a folder");
    world.start().await;
    world.write("in/new\nline -$(x).csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/new\nline -$(x).csv 1"]);
}

/// Another watch that is not set any more is forgotten, and new when it is set again.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_taken_away_is_forgotten() {
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"50ms\"");
    fs::create_dir(world.path("in")).expect("a folder");
    world.start().await;
    world.unset().await;
    world.write("in/a.csv", "1");
    world.set().await;
    world.write("in/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
}
