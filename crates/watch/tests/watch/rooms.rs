//! A server that takes no more: files wait on disk, and go on by themselves.

use hetuflow_core::protocol::{WatchHealth, WatchState};

use crate::world::{KEY, World};

async fn start(more: &str) -> World {
    let mut world = World::new(&format!("paths = [\"in/*\"]\nsettle = \"0s\"\n{more}"));
    world.write("in/sub/keep", "");
    world.start().await;
    world
}

fn write(world: &World, names: &[&str]) {
    for name in names {
        world.write(&format!("in/{name}"), "1");
    }
}

async fn give(world: &World, room: u64) {
    world.watcher().set_rooms(&[(KEY.to_owned(), room)]).await.expect("the state");
}

async fn withheld(world: &World, count: u64) -> WatchState {
    world.state(|state| state.withheld == count && (state.health == WatchHealth::Full) == (count > 0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_take_waits_on_disk() {
    let mut world = start("order = \"path\"\nmax_size = 3").await;
    give(&world, 2).await;
    write(&world, &["a"]);
    assert_eq!(world.told(1).await, ["arrived in/a 1"]);
    write(&world, &["b"]);
    assert_eq!(world.told(1).await, ["arrived in/b 1"]);
    write(&world, &["d", "c", "e"]);
    withheld(&world, 3).await;
    // What waits to be told counts: the server has no room for these two.
    give(&world, 2).await;
    withheld(&world, 3).await;
    world.acknowledge().await;
    withheld(&world, 3).await;
    give(&world, 2).await;
    assert_eq!(world.told_in_order(2).await, ["arrived in/c 1", "arrived in/d 1"]);
    withheld(&world, 1).await;
    // Another trigger has room of its own.
    world.set_beside("paths = [\"other/*\"]\nsettle = \"0s\"").await;
    world.write("other/x", "1");
    assert_eq!(world.told(1).await, ["arrived other/x 1"]);
    assert_eq!(world.watcher().pending(&[KEY.to_owned()], 9).await.expect("the outbox").len(), 1);
    // Who does not know how much room there is keeps nothing back; nor does a new life.
    world.watcher().forget_rooms();
    assert_eq!(world.told(1).await, ["arrived in/e 1"]);
    world.state(|state| state.health != WatchHealth::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_deletions_wait_too() {
    let mut world = start("events = [\"arrived\", \"deleted\"]").await;
    write(&world, &["a", "b"]);
    world.events(2).await;
    world.acknowledge().await;
    give(&world, 1).await;
    std::fs::remove_file(world.path("in/a")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted in/a 1"]);
    std::fs::remove_file(world.path("in/b")).expect("removed");
    world.state(|state| state.health == WatchHealth::Full).await;
    world.acknowledge().await;
    give(&world, 1).await;
    assert_eq!(world.told(1).await, ["deleted in/b 1"]);

    let mut world = start("batch = { max_files = 2, max_wait = \"1h\" }").await;
    give(&world, 1).await;
    write(&world, &["a", "b", "c", "d"]);
    world.events(1).await;
    withheld(&world, 2).await;
    world.acknowledge().await;
    give(&world, 1).await;
    world.events(1).await;
}
