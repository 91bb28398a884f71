//! Where fanotify cannot be had: the watch says why, and nothing is lost. What it does where it can is in the scenarios.

use hetuflow_core::protocol::WatchHealth;

use crate::world::World;

/// Set in the process that may not mark file systems.
const CONFINED: &str = "HETUFLOW_TEST_CONFINED";

/// In a user namespace of its own, in which even root may not mark a file system of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_capability_inotify_tells() {
    if std::env::var_os(CONFINED).is_none() {
        return confined("fanotify::without_the_capability_inotify_tells");
    }
    let mut world = World::new("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"\nbackend = \"fanotify\"");
    std::fs::create_dir_all(world.path("in/sub")).expect("a folder");
    world.start().await;
    let says = ["is watched without fanotify", "CAP_SYS_ADMIN", "backend = \"auto\""];
    let state = world
        .state(|state| {
            state.problem.as_deref().is_some_and(|problem| says.iter().all(|says| problem.contains(says)))
        })
        .await;
    // By events, and not by looking.
    assert_eq!(state.health, WatchHealth::Live);
    world.write("in/sub/a.csv", "1");
    world.write("in/new/b.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/new/b.csv 1", "arrived in/sub/a.csv 1"]);
}

fn confined(name: &str) {
    let own = std::env::current_exe().expect("this program");
    #[expect(clippy::disallowed_methods, reason = "the same test in a namespace of its own")]
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(own).args(["--exact", name]).env(CONFINED, "yes");
    let output = command.output().expect("`unshare` of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "it needs user namespaces: {output:?}");
}
