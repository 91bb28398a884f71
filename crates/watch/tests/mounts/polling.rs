//! Where no event tells of files, they are found by looking: each once it is complete, once, and none counts as deleted
//! because a look was not answered.

use hetuflow_core::protocol::WatchHealth;

use crate::{far::Far, has_own_mounts, world::World};

const SOURCE: &str =
    "paths = ['far/**/*.csv']\nsettle = '2s'\npoll = '100ms'\nevents = ['arrived', 'deleted', 'moved']";

#[tokio::test(flavor = "multi_thread")]
async fn files_without_events_are_found_complete_and_once() {
    if !has_own_mounts("polling::files_without_events_are_found_complete_and_once") {
        return;
    }
    let mut world = World::new(SOURCE);
    let far = Far::mount(&world.path("far"));
    far.write("old.csv", "1");
    world.start().await;
    world.state(|state| state.health == WatchHealth::Polling).await;

    far.write("half.csv", "1");
    far.write("new/deep/b.csv", "1");
    world.state(|state| state.settling == 2).await;
    far.write("half.csv", "12");
    far.write("new/c.csv.part", "1");
    std::fs::rename(far.path("new/c.csv.part"), far.path("new/c.csv")).expect("renamed");
    let expected = ["arrived far/half.csv 2", "arrived far/new/c.csv 1", "arrived far/new/deep/b.csv 1"];
    assert_eq!(world.told(3).await, expected);

    // The same again, and a move: nothing is told twice.
    far.write("half.csv", "123");
    std::fs::rename(far.path("new/c.csv"), far.path("d.csv")).expect("renamed");
    assert_eq!(world.told(2).await, ["moved far/d.csv 1", "arrived far/half.csv 3"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_that_is_not_known_to_be() {
    if !has_own_mounts("polling::nothing_is_deleted_that_is_not_known_to_be") {
        return;
    }
    let mut world = World::new(&SOURCE.replace("2s", "100ms"));
    let far = Far::mount(&world.path("far"));
    world.start().await;
    far.write("in/a.csv", "1");
    far.write("in/b.csv", "1");
    assert_eq!(world.told(2).await, ["arrived far/in/a.csv 1", "arrived far/in/b.csv 1"]);

    far.fail();
    world.state(|state| state.health == WatchHealth::Offline).await;
    far.release();
    world.state(|state| state.health == WatchHealth::Polling).await;

    // The connection goes, and what it is mounted on is an empty folder.
    let again = far.unmount();
    let says = |problem: &str| problem.contains("is it mounted?") || problem.contains("cannot be watched");
    world
        .state(|state| state.health == WatchHealth::Offline && state.problem.as_deref().is_some_and(says))
        .await;
    let far = again(&world.path("far"));
    world.state(|state| state.health == WatchHealth::Polling && state.tracked == 2).await;
    std::fs::remove_file(far.path("in/a.csv")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted far/in/a.csv 1"]);
    world.stop().await;
}
