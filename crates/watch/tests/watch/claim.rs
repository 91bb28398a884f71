//! Files that are claimed: by one of many, and not where that cannot be done.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use crate::{
    full::{OWN, fill, program, run, with_own_mounts},
    world::World,
};

const CLAIM: &str =
    "paths = [\"in/**/*.csv\"]\nsettle = \"0s\"\nclaim = \"rename\"\ndedupe = { key = [\"path\"] }\n";

#[tokio::test(flavor = "multi_thread")]
async fn of_agents_that_share_a_folder_one_claims_each_file() {
    const FILES: usize = 300;
    let source = format!("{CLAIM}share = \"nas\"\nbackend = \"poll\"\npoll = \"100ms\"");
    let (mut one, mut two) = (World::new(&source), World::new(&source).named("agent-2"));
    fs::create_dir(one.path("in")).expect("made");
    // The second sees the folder of the first.
    fs::remove_dir(two.base()).expect("removed");
    symlink(one.base(), two.base()).expect("linked");
    one.start().await;
    two.start().await;
    for number in 0..FILES {
        one.write(&format!("in/{}/{number}.csv", number % 7), "1");
    }
    let mut changes = (one.watcher().changes(), two.watcher().changes());
    let outbox = async |world: &World| world.watcher().pending(&[], 10_000).await.expect("the outbox");
    let (ones, twos) = loop {
        let (ones, twos) = (outbox(&one).await, outbox(&two).await);
        if ones.len() + twos.len() >= FILES {
            break (ones, twos);
        }
        tokio::select! {
            told = changes.0.changed() => told.expect("it runs"),
            told = changes.1.changed() => told.expect("it runs"),
        }
    };
    let names = |base: &World, events: &[hetuflow_core::protocol::FileEvent]| -> BTreeSet<_> {
        let found = events.iter().map(|event| event.facts.found_at());
        found.map(|path| path.strip_prefix(base.base()).expect("below").to_owned()).collect()
    };
    let (first, second) = (names(&one, &ones), names(&two, &twos));
    assert_eq!((first.len(), second.len()), (ones.len(), twos.len()));
    assert_eq!((first.intersection(&second).count(), first.union(&second).count()), (0, FILES));
    for event in ones.iter().chain(&twos) {
        assert!(event.facts.location().exists(), "{event:?}");
    }
    // Another life of each finds its own claims, knows them, and leaves those of the other alone.
    one.stop().await;
    two.stop().await;
    fs::remove_file(two.state_folder().join("watch.db")).expect("removed");
    one.start().await;
    two.start().await;
    one.state(|state| state.settling == 0 && state.tracked == first.len() as u64).await;
    two.state(|state| state.settling == 0 && state.tracked == second.len() as u64).await;
    assert_eq!(names(&two, &outbox(&two).await), second);
    assert_eq!(names(&one, &outbox(&one).await), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_claimed_waits_and_is_said() {
    if std::env::var_os(OWN).is_none() {
        return with_own_mounts("claim::what_cannot_be_claimed_waits_and_is_said");
    }
    let mut world = World::new(&format!("{CLAIM}max_settle = \"1s\""));
    let mounted = world.path("in/mounted");
    fs::create_dir_all(&mounted).expect("made");
    run(program("mount").args(["-t", "tmpfs", "none"]).arg(&mounted));
    world.start().await;
    world.write("in/mounted/a.csv", "1");
    let why = "it is on another file system than the start of its glob";
    world.state(|state| state.problem.as_deref().is_some_and(|problem| problem.contains(why))).await;
    let stuck = format!("stuck in/mounted/a.csv 1 it cannot be claimed: {why}");
    assert_eq!(world.told(1).await, [stuck]);
    world.write("in/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived from in/b.csv 1"]);
    fs::rename(mounted.join("a.csv"), world.path("in/a.csv")).expect_err("two file systems");
    fs::copy(mounted.join("a.csv"), world.path("in/a.csv")).expect("copied");
    assert_eq!(world.told(1).await, ["arrived from in/a.csv 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_and_not_written_down_is_told_once_it_can_be() {
    if std::env::var_os(OWN).is_none() {
        return with_own_mounts("claim::what_is_claimed_and_not_written_down_is_told_once_it_can_be");
    }
    let mut world = World::new(CLAIM);
    let state = world.state_folder();
    run(program("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&state));
    fs::create_dir(world.path("in")).expect("made");
    world.start().await;
    world.write("in/before.csv", "1");
    assert_eq!(world.told(1).await, ["arrived from in/before.csv 1"]);
    fill(&state.join("others"));
    for name in ["a", "b", "c"] {
        world.write(&format!("in/{name}.csv"), name);
    }
    world.state(|state| state.problem.as_deref().is_some_and(|problem| problem.contains("full"))).await;
    assert_eq!(world.waiting().await, ["before.csv"], "nothing is told that is not remembered");
    fs::remove_file(state.join("others")).expect("removed");
    let told = world.told(3).await;
    assert_eq!(told, ["arrived from in/a.csv 1", "arrived from in/b.csv 1", "arrived from in/c.csv 1"]);
    world.acknowledge().await;
    world.state(|state| state.problem.is_none() && state.settling == 0).await;
}

/// Folders that a crash leaves empty, and others that somebody put there.
#[tokio::test(flavor = "multi_thread")]
async fn only_empty_folders_of_ours_go() {
    let mut world = World::new(CLAIM);
    fs::create_dir(world.path("in")).expect("made");
    world.start().await;
    world.write("in/x/a.csv", "1");
    let claimed = world.events(1).await.remove(0).facts.location();
    let folder = claimed.parent().expect("x").to_owned();
    world.stop().await;
    fs::remove_file(&claimed).expect("removed");
    let strange = world.path("in/.hetuflow/claimed/strange");
    fs::create_dir(&strange).expect("made");
    fs::set_permissions(&strange, Permissions::from_mode(0o700)).expect("set");
    world.start().await;
    world.write("in/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived from in/b.csv 1"]);
    world.state(|state| state.tracked == 1).await;
    assert!(!folder.parent().expect("the claim").exists() && strange.exists());
}
