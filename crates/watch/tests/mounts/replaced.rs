//! What is mounted over a root, below it, or in its place, and unmounted again: nothing counts as deleted by it, it is noticed
//! without a look at everything, and what came meanwhile is found.

use std::{ffi::CStr, fs, path::Path};

use hetuflow_core::protocol::WatchHealth;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::{
    has_own_mounts,
    world::{World, has_fanotify},
};

fn source(backend: &str) -> String {
    format!("paths = ['in/**/*.csv']\nsettle = '0s'\nevents = ['arrived', 'deleted']\nbackend = '{backend}'")
}

/// What tells of local files.
async fn backends() -> Vec<&'static str> {
    if has_fanotify().await { vec!["auto", "fanotify"] } else { vec!["auto"] }
}

fn tmpfs(at: &Path) {
    mount("test", at, c"tmpfs", MountFlags::empty(), None::<&CStr>).expect("mounted");
}

fn away(at: &Path) {
    unmount(at, UnmountFlags::DETACH).expect("unmounted");
}

async fn health(world: &World, health: WatchHealth) {
    world.state(|state| state.health == health).await;
}

async fn asks_for_the_mount(world: &World) {
    world
        .state(|state| state.problem.as_deref().is_some_and(|problem| problem.contains("is it mounted?")))
        .await;
}

/// The events of local file systems are enough: no look is due before the test would fail.
async fn start(folder: &str, backend: &str) -> World {
    let mut world = World::new(&source(backend));
    fs::create_dir_all(world.path(folder)).expect("a folder");
    world.start().await;
    health(&world, WatchHealth::Live).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_over_a_root_comes_and_goes() {
    if !has_own_mounts("replaced::a_file_system_over_a_root_comes_and_goes") {
        return;
    }
    for backend in backends().await {
        come_and_go_by(backend).await;
    }
}

async fn come_and_go_by(backend: &str) {
    let mut world = start("in", backend).await;
    world.write("in/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a.csv 1"]);

    tmpfs(&world.path("in"));
    asks_for_the_mount(&world).await;
    health(&world, WatchHealth::Offline).await;
    away(&world.path("in"));
    health(&world, WatchHealth::Live).await;

    // In use, it is the root.
    tmpfs(&world.path("in"));
    asks_for_the_mount(&world).await;
    world.write("in/b.csv", "12");
    assert_eq!(world.told(1).await, ["arrived in/b.csv 2"]);
    health(&world, WatchHealth::Live).await;
    world.write("in/c.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/c.csv 1"]);
    fs::remove_file(world.path("in/c.csv")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted in/c.csv 1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_unmounted_and_mounted_again() {
    if !has_own_mounts("replaced::a_root_is_unmounted_and_mounted_again") {
        return;
    }
    for backend in backends().await {
        unmount_and_mount_by(backend).await;
    }
}

async fn unmount_and_mount_by(backend: &str) {
    let mut world = World::new(&source(backend));
    for folder in ["in", "side", "merged", "upper", "work"] {
        fs::create_dir(world.path(folder)).expect("a folder");
    }
    mount_bind(world.path("side"), world.path("in")).expect("mounted");
    world.start().await;
    world.write("in/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a.csv 1"]);
    away(&world.path("in"));
    asks_for_the_mount(&world).await;
    // Another one in its place, and the first again, over a restart too.
    tmpfs(&world.path("in"));
    asks_for_the_mount(&world).await;
    world.stop().await;
    away(&world.path("in"));
    world.restart().await;
    asks_for_the_mount(&world).await;
    world.write("side/b.csv", "1");
    mount_bind(world.path("side"), world.path("in")).expect("mounted");
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
    health(&world, WatchHealth::Live).await;
    fs::remove_file(world.path("in/a.csv")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted in/a.csv 1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_tells_by_events_and_comes_back() {
    if !has_own_mounts("replaced::an_overlay_tells_by_events_and_comes_back") {
        return;
    }
    for backend in backends().await {
        // Marked as a whole only with the second; without, inotify takes the place of fanotify.
        for export in ["", ",index=on,nfs_export=on"] {
            overlay_by(backend, export).await;
        }
    }
}

async fn overlay_by(backend: &str, export: &str) {
    let mut world = World::new(&source(backend));
    for folder in ["in", "lower", "upper", "work"] {
        fs::create_dir(world.path(folder)).expect("a folder");
    }
    world.write("lower/old.csv", "1");
    world.write("lower/sub/old.csv", "1");
    let path = |folder: &str| world.path(folder).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}{export}\0", path("lower"), path("upper"), path("work"));
    let options = CStr::from_bytes_with_nul(options.as_bytes()).expect("one NUL");
    let overlay = |at: &Path| mount("test", at, c"overlay", MountFlags::empty(), options).expect("mounted");
    overlay(&world.path("in"));
    world.start().await;
    let state = world.state(|state| state.health == WatchHealth::Live && state.baseline_done).await;
    let is_marked = backend == "auto" || !export.is_empty();
    assert_eq!(state.problem.is_none(), is_marked, "{state:?}");
    world.write("in/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a.csv 1"]);
    // Copied up, which changes its inode, and then written.
    world.write("in/old.csv", "12");
    assert_eq!(world.told(1).await, ["arrived in/old.csv 2"]);
    // In a directory that is copied up by that.
    for name in ["a", "b"] {
        world.write(&format!("in/sub/{name}.csv"), "1");
        assert_eq!(world.told(1).await, [format!("arrived in/sub/{name}.csv 1")]);
    }
    away(&world.path("in"));
    asks_for_the_mount(&world).await;
    overlay(&world.path("in"));
    health(&world, WatchHealth::Live).await;
    world.write("in/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
    world.stop().await;
}

/// A root may hold mounts.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_unmounted_below_a_root_is_not_deleted() {
    if !has_own_mounts("replaced::what_is_unmounted_below_a_root_is_not_deleted") {
        return;
    }
    for backend in backends().await {
        unmount_below_by(backend).await;
    }
}

async fn unmount_below_by(backend: &str) {
    let mut world = World::new(&source(backend));
    for folder in ["in/sub", "side"] {
        fs::create_dir_all(world.path(folder)).expect("a folder");
    }
    tmpfs(&world.path("side"));
    mount_bind(world.path("side"), world.path("in/sub")).expect("mounted");
    world.start().await;
    world.write("in/sub/deep/a.csv", "1");
    world.write("in/sub/b.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/sub/b.csv 1", "arrived in/sub/deep/a.csv 1"]);
    away(&world.path("in/sub"));
    asks_for_the_mount(&world).await;
    world.write("side/c.csv", "1");
    mount_bind(world.path("side"), world.path("in/sub")).expect("mounted");
    assert_eq!(world.told(1).await, ["arrived in/sub/c.csv 1"]);
    health(&world, WatchHealth::Live).await;
    fs::remove_file(world.path("in/sub/deep/a.csv")).expect("removed");
    assert_eq!(world.told(1).await, ["deleted in/sub/deep/a.csv 1"]);
    world.stop().await;
}
