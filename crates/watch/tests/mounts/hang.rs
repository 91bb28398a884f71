//! A file system that does not answer holds up nobody but its own watches.

use std::time::{Duration, Instant};

use hetuflow_core::protocol::WatchHealth;

use crate::{far::Far, has_own_mounts, world::World};

const NEAR: &str = "paths = ['near/*.csv']\nsettle = '0s'";
const FAR: &str = "paths = ['far/*.csv']\nsettle = '0s'\npoll = '100ms'";

fn worlds() -> World {
    let mut world = World::new(NEAR);
    world.patience(Duration::from_millis(300));
    std::fs::create_dir(world.path("near")).expect("a folder");
    world
}

async fn hangs(world: &World) {
    let says = |problem: &str| problem.contains("has not answered since 20");
    let state =
        world.state(|state| state.key.ends_with("-2") && state.problem.as_deref().is_some_and(says)).await;
    assert_eq!(state.health, WatchHealth::Hanging);
}

async fn goes_on(world: &mut World, name: &str) {
    world.write(&format!("near/{name}"), "1");
    assert_eq!(world.told(1).await, [format!("arrived near/{name} 1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_watches_go_on_and_a_stop_does_not_wait() {
    if !has_own_mounts("hang::other_watches_go_on_and_a_stop_does_not_wait") {
        return;
    }
    let mut world = worlds();
    let far = Far::mount(&world.path("far"));
    world.start().await;
    world.set_beside(FAR).await;
    far.write("a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived far/a.csv 1"]);
    world.acknowledge().await;

    far.hold();
    far.write("late.csv", "1");
    hangs(&world).await;
    goes_on(&mut world, "b.csv").await;

    let begin = Instant::now();
    world.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "it waited for an answer: {:?}", begin.elapsed());
    world.restart().await;
    goes_on(&mut world, "c.csv").await;
    hangs(&world).await;

    far.release();
    assert_eq!(world.told(1).await, ["arrived far/late.csv 1"]);
    world.state(|state| state.key.ends_with("-2") && state.health == WatchHealth::Polling).await;
    world.stop().await;
}

/// A trigger that points elsewhere, or is taken away, helps at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_hangs_can_be_changed() {
    if !has_own_mounts("hang::a_watch_that_hangs_can_be_changed") {
        return;
    }
    let mut world = worlds();
    let far = Far::mount(&world.path("far"));
    world.start().await;
    world.set_beside(FAR).await;
    far.hold();
    hangs(&world).await;
    world.edit_beside("paths = ['other/*.csv']\nsettle = '0s'");
    world
        .state(|state| {
            state.key.ends_with("-2") && state.revision == 2 && state.health == WatchHealth::Offline
        })
        .await;
    world.write("other/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived other/a.csv 1"]);
    far.release();
    world.edit_beside(FAR);
    world.state(|state| state.key.ends_with("-2") && state.revision == 3 && state.baseline_done).await;
    far.hold();
    hangs(&world).await;
    world.unset().await;
    far.release();
    world.stop().await;
}

/// What is mounted over a local directory later hangs in the middle of a turn that is everybody's: they part.
#[tokio::test(flavor = "multi_thread")]
async fn watches_part_where_a_local_directory_hangs_after_all() {
    if !has_own_mounts("hang::watches_part_where_a_local_directory_hangs_after_all") {
        return;
    }
    let mut world = worlds();
    std::fs::create_dir(world.path("far")).expect("a folder");
    world.start().await;
    world.set_beside(&format!("{FAR}\nbackend = 'poll'")).await;
    world.write("far/before.csv", "1");
    assert_eq!(world.told(1).await, ["arrived far/before.csv 1"]);
    let far = Far::mount(&world.path("far"));
    far.hold();
    hangs(&world).await;
    goes_on(&mut world, "a.csv").await;
    far.write("b.csv", "1");
    far.release();
    assert_eq!(world.told(1).await, ["arrived far/b.csv 1"]);
    world.stop().await;
}
