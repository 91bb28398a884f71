//! Whoever may write below a root cannot lead the agent out of it, however well the moment is chosen.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hetuflow_core::protocol::{FileEvent, FileVerdict};

use crate::{world::World, writers::exchange};

/// Even: at the end the folder is where it was.
const SWAPS: usize = 4000;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_swapped_for_a_link_leads_nowhere() {
    for symlinks in ["ignore", "file", "follow"] {
        swap_folder(symlinks).await;
    }
}

async fn swap_folder(symlinks: &str) {
    let mut world = World::new(&format!(
        "paths = ['in/**/*.csv']\nsettle = '0s'\nevents = ['arrived', 'deleted']\ndone_marker = '{{name}}.ok'\nsymlinks = '{symlinks}'",
    ));
    for name in ["in/sub/old.csv", "in/sub/old.csv.ok", "out/secret.csv", "out/secret.csv.ok"] {
        world.write(name, "1");
    }
    world.start().await;
    symlink(world.path("out"), world.path("link")).expect("linked");
    let (folder, link) = (world.path("in/sub"), world.path("link"));
    let swaps = tokio::task::spawn_blocking(move || {
        for _ in 0..SWAPS {
            exchange(&folder, &link);
        }
    });
    swaps.await.expect("swapped");
    // What is behind the link was never seen, and what is in the folder is not gone.
    world.write("in/sub/last.csv", "1");
    world.write("in/sub/last.csv.ok", "1");
    assert_eq!(world.told(1).await, ["arrived in/sub/last.csv 1"]);
    fs::remove_file(world.path("in/sub/old.csv")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted in/sub/old.csv 1"]);
    assert!(world.path("out/secret.csv.ok").exists());
}

/// `sha256sum` of the line `inside`.
const INSIDE: &str = "7b2441693c861bf6969869d8b6f45f098bc8ef07b78ca043a1cb663159aabb10";

/// The watcher looks at the links all the time, reads what they lead to, and each time they may lead elsewhere by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_for_one_that_leads_out_is_never_read_through() {
    let source = "paths = ['in/*/*.csv']\nsettle = '0s'\nsymlinks = 'follow'\non_reject = 'ignore'\n\
         dedupe.key = ['path', 'mtime', 'sha256']\nevents = ['arrived', 'moved']\nbackend = 'poll'\npoll = '100ms'";
    let mut world = World::new(source);
    for (folder, text) in [("in/.store", "inside\n"), ("out", "outside\n")] {
        world.write(&format!("{folder}/a.csv"), text);
    }
    fs::create_dir_all(world.path("in/files")).expect("made");
    world.start().await;
    // Each pair: a link that is watched and leads to what is below, and one that leads out, for a file and for a folder.
    for (link, text, out) in
        [("in/files/a.csv", "../.store/a.csv", "../../out/a.csv"), ("in/folder", ".store", "../out")]
    {
        symlink(text, world.path(link)).expect("linked");
        symlink(out, world.path(&format!("{}-out", link.replace('/', "-")))).expect("linked");
    }
    let pairs = ["in/files/a.csv", "in/folder"]
        .map(|link| (world.path(link), world.path(&format!("{}-out", link.replace('/', "-")))));
    let (target, done) = (world.path("in/.store/a.csv"), Arc::new(AtomicBool::new(false)));
    let ends = Arc::clone(&done);
    let swaps = tokio::task::spawn_blocking(move || {
        for number in 0..SWAPS {
            for (one, other) in &pairs {
                exchange(one, other);
            }
            if number % 100 == 0 {
                // Another version, so that there is something to tell and to read.
                fs::write(&target, "inside\n").expect("written");
            }
        }
        ends.store(true, Ordering::Relaxed);
    });
    let mut told = Vec::new();
    while !done.load(Ordering::Relaxed) {
        told.extend(take(&world).await);
    }
    swaps.await.expect("swapped");
    fs::write(world.path("in/.store/a.csv"), "inside\n").expect("written");
    world.write("in/files/last.csv", "inside\n");
    while !told.iter().any(|event: &FileEvent| event.facts.path.ends_with("last.csv")) {
        told.extend(take(&world).await);
    }
    for event in &told {
        assert_eq!(event.facts.sha256.as_deref(), Some(INSIDE), "{event:?}");
        assert!(!event.facts.path.contains("/out/"), "{event:?}");
    }
    assert_eq!(fs::read_to_string(world.path("out/a.csv")).expect("it is there"), "outside\n");
}

/// What is pending, after a change.
async fn take(world: &World) -> Vec<FileEvent> {
    let mut changes = world.watcher().changes();
    let events = world.watcher().pending(&[], 10_000).await.expect("the outbox");
    if events.is_empty() {
        // The swaps may end without one.
        let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
    }
    world.answer(events.clone(), FileVerdict::Accepted).await;
    events
}
