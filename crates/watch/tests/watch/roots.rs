//! The agent's own policy: where watches may be, whatever a server asks for, and whatever links lead to.

use std::os::unix::fs::symlink;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_watched_outside_of_the_roots() {
    let mut world = World::new("paths = [\"in/*\"]\nsettle = \"50ms\"");
    world.allow("allowed");
    std::fs::create_dir(world.path("allowed")).expect("made");
    world.start_refused().await;
    let state = world.state(|state| state.problem.is_some()).await;
    assert!(state.problem.is_some_and(|problem| problem.contains("[files] roots in agent.toml allows")));

    // A link that leads out of them is no way.
    std::fs::create_dir(world.path("elsewhere")).expect("made");
    symlink(world.path("elsewhere"), world.path("allowed/link")).expect("linked");
    world.edit_unsound(&["paths = [\"allowed/link/*\"]\nsettle = \"50ms\"".to_owned()]);
    let outside = |problem: &str| problem.contains("which [files] roots in agent.toml does not allow");
    world.state(|state| state.problem.as_deref().is_some_and(outside)).await;

    world.edit("paths = [\"allowed/*\"]\nsettle = \"50ms\"").await;
    world.write("allowed/a", "1");
    assert_eq!(world.told(1).await, ["arrived allowed/a 1"]);
}
