//! What the system's limit of watches does: everything is still found, and the watch says which limit it is.

use std::fs;

use hetuflow_core::protocol::WatchHealth;

use crate::world::World;

/// Set in the process that runs with few watches.
const FEW: &str = "HETUFLOW_TEST_FEW_WATCHES";

/// In a user namespace of its own, which has limits of its own, so that nobody else's are touched.
#[tokio::test(flavor = "multi_thread")]
async fn directories_beyond_the_limit_of_watches_are_polled() {
    if std::env::var_os(FEW).is_none() {
        return with_few_watches("limits::directories_beyond_the_limit_of_watches_are_polled");
    }
    let mut world = World::new("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"\npoll = \"1s\"");
    for directory in 0..30 {
        fs::create_dir_all(world.path(&format!("in/{directory}"))).expect("a folder");
    }
    world.start().await;
    let says =
        "the limit of inotify watches is reached: raise it with `sysctl fs.inotify.max_user_watches=1048576`";
    let state =
        world.state(|state| state.problem.as_deref().is_some_and(|problem| problem.contains(says))).await;
    assert_eq!(state.health, WatchHealth::Polling);
    for directory in 0..30 {
        world.write(&format!("in/{directory}/a.csv"), "1");
    }
    assert_eq!(world.events(30).await.len(), 30);
}

fn with_few_watches(name: &str) {
    let own = std::env::current_exe().expect("this program");
    let script = "echo 10 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact \"$1\"";
    #[expect(clippy::disallowed_methods, reason = "the same test in a namespace of its own")]
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(own).arg(name).env(FEW, "yes");
    let output = command.output().expect("`unshare` of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "it needs user namespaces: {output:?}");
}
