//! Whoever may write below a root cannot lead the agent out of it, however well the moment is chosen.

use std::{fs, os::unix::fs::symlink};

use crate::{world::World, writers::exchange};

/// Even: at the end the folder is where it was.
const SWAPS: usize = 4000;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_swapped_for_a_link_leads_nowhere() {
    let mut world = World::new(
        "paths = ['in/**/*.csv']\nsettle = '0s'\nevents = ['arrived', 'deleted']\ndone_marker = '{name}.ok'",
    );
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
