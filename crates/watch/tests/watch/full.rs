//! The disk of the state file is full: nothing is told without being remembered, the watch says so, and goes on by itself.

use std::{
    fs::{self, File},
    process::Command,
};

use crate::world::World;

/// Set in the process that may mount.
pub(crate) const OWN: &str = "HETUFLOW_TEST_OWN_MOUNTS";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_and_doubles_nothing() {
    if std::env::var_os(OWN).is_none() {
        return with_own_mounts("full::a_full_disk_loses_and_doubles_nothing");
    }
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"0s\"");
    let state = world.state_folder();
    run(program("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&state));
    world.write("in/old.csv", "1");
    world.start().await;
    world.write("in/before.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/before.csv 1"]);

    fill(&state.join("others"));
    for name in ["a", "b", "c"] {
        world.write(&format!("in/{name}.csv"), name);
    }
    world.state(|state| state.problem.as_deref().is_some_and(|problem| problem.contains("full"))).await;
    assert_eq!(world.waiting().await, ["before.csv"], "nothing is told that is not remembered");
    // It changes while nobody can write it down.
    world.write("in/c.csv", "later");

    fs::remove_file(state.join("others")).expect("removed");
    let told = world.told(3).await;
    assert_eq!(told, ["arrived in/a.csv 1", "arrived in/b.csv 1", "arrived in/c.csv 5"]);
    world.acknowledge().await;
    world.state(|state| state.problem.is_none() && state.settling == 0).await;

    // Acknowledgements that cannot be written down are told again, under ids that the server knows.
    world.write("in/d.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/d.csv 1"]);
    fill(&state.join("others"));
    let known = world.watcher().acknowledge(&world.acks().await).await;
    assert!(known.is_err() || world.waiting().await.is_empty(), "it is one or the other");
    fs::remove_file(state.join("others")).expect("removed");
    world.acknowledge().await;
    assert!(world.waiting().await.is_empty());
    world.stop().await;
    world.start().await;
    assert_eq!(world.waiting().await, Vec::<String>::new(), "{known:?}");
}

/// What was there before is recorded turn by turn. Where one of them cannot be written down, those files are found again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_no_old_file_new() {
    const FILES: u64 = 16_000;
    if std::env::var_os(OWN).is_none() {
        return with_own_mounts("full::a_full_disk_makes_no_old_file_new");
    }
    let mut world = World::new("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"");
    let state = world.state_folder();
    run(program("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&state));
    for number in 0..FILES {
        world.write(&format!("in/{}/{number}.csv", number % 16), "1");
    }
    world.start_refused().await;
    let full = |problem: &str| problem.contains("full");
    let stopped = world.state(|state| state.problem.as_deref().is_some_and(full)).await;
    assert!(!stopped.baseline_done && (1..FILES).contains(&stopped.tracked), "{stopped:?}");

    run(program("mount").args(["-o", "remount,size=64m"]).arg(&state));
    let recorded = world.state(|state| state.baseline_done && state.problem.is_none()).await;
    assert_eq!(recorded.tracked, FILES);
    world.write("in/0/0.csv", "later");
    world.write("in/0/new.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/0/0.csv 5", "arrived in/0/new.csv 1"]);
}

/// To the last byte.
pub(crate) fn fill(path: &std::path::Path) {
    let mut file = File::create(path).expect("made");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}

/// In a mount namespace of its own, so that a small disk can be had.
pub(crate) fn with_own_mounts(name: &str) {
    let own = std::env::current_exe().expect("this program");
    let mut command = program("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(own).args(["--exact", name]).env(OWN, "yes");
    let said = run(&mut command);
    assert!(said.contains("1 passed"), "it needs user namespaces: {said}");
}

#[expect(clippy::disallowed_methods, reason = "a small disk, and the same test in a namespace of its own")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program of util-linux");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
