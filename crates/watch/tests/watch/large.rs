//! A file that takes long to read: a hole of so many bytes that its checksum is not known before the test ends.

use std::fs::OpenOptions;

use crate::world::World;

const HOLE: u64 = 1 << 42;

fn set_length(world: &World, length: u64) {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(world.path("in/large.bin"));
    file.expect("opened").set_len(length).expect("a file system with holes");
}

async fn started() -> World {
    let mut world =
        World::new("paths = [\"in/*\"]\nsettle = \"0s\"\ndedupe = { key = [\"path\", \"sha256\"] }");
    world.write("in/sub/keep", "");
    world.start().await;
    world.set_beside("paths = [\"other/*\"]\nsettle = \"0s\"").await;
    set_length(&world, HOLE);
    world.state(|state| state.hashing == 1).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_checksum_of_a_large_file() {
    let mut world = started().await;
    world.write("other/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived other/a.csv 1"]);
    // Nor do small files of the same watch.
    world.write("in/small.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/small.csv 1"]);
    world.state(|state| state.hashing == 1 && state.settling == 1).await;
    // Nor does a stop; and another life begins anew.
    world.stop().await;
    world.start().await;
    world.state(|state| state.hashing == 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_is_read_anew() {
    let mut world = started().await;
    // Too large to be read in a turn, and behind the hole until that is no more.
    let length = 3 << 20;
    set_length(&world, length);
    let event = world.events(1).await.remove(0);
    assert_eq!(event.facts.size, length);
    // Of so many zeros, by `sha256sum`.
    let sum = "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5";
    assert_eq!(event.facts.sha256.as_deref(), Some(sum));
    world.state(|state| state.hashing == 0 && state.settling == 0).await;
}
