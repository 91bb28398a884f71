//! One mark for a file system, in a process of its own, so that what it has of the kernel can be counted.

use std::{ffi::CStr, fs};

use hetuflow_core::protocol::WatchHealth;
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::{
    far::Far,
    has_own_mounts,
    world::{World, has_fanotify},
};

const SOURCE: &str = "paths = ['in/**/*.csv']\nsettle = '0s'\nbackend = 'fanotify'";

/// Lines of the kernel's lists of what this process watches.
fn watched(begin: &str) -> usize {
    let descriptors = fs::read_dir("/proc/self/fdinfo").expect("the descriptors").flatten();
    let texts = descriptors.filter_map(|one| fs::read_to_string(one.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with(begin)).count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_on_two_file_systems_needs_two_marks() {
    if !has_own_mounts("fanotify::a_tree_on_two_file_systems_needs_two_marks") || !has_fanotify().await {
        return;
    }
    let mut world = World::new(SOURCE);
    for number in 0..200 {
        fs::create_dir_all(world.path(&format!("in/{number}"))).expect("a folder");
    }
    for folder in ["in/far", "near"] {
        fs::create_dir(world.path(folder)).expect("a folder");
    }
    mount("test", world.path("in/far"), c"tmpfs", MountFlags::empty(), None::<&CStr>).expect("mounted");
    world.start().await;
    assert_eq!((watched("fanotify sdev:"), watched("inotify wd:")), (2, 0));
    world.write("in/199/a.csv", "1");
    world.write("in/far/new/deep/a.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/199/a.csv 1", "arrived in/far/new/deep/a.csv 1"]);

    world.edit(&SOURCE.replace("fanotify", "auto")).await;
    assert_eq!(watched("fanotify sdev:"), 0);
    assert!(watched("inotify wd:") > 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_nobody_watches_any_more_loses_its_mark() {
    if !has_own_mounts("fanotify::a_file_system_that_nobody_watches_any_more_loses_its_mark")
        || !has_fanotify().await
    {
        return;
    }
    let mut world = World::new(SOURCE);
    for folder in ["in", "far", "near"] {
        fs::create_dir(world.path(folder)).expect("a folder");
    }
    mount("test", world.path("far"), c"tmpfs", MountFlags::empty(), None::<&CStr>).expect("mounted");
    world.start().await;
    world.set_beside(&SOURCE.replace("in/", "far/")).await;
    world.write("far/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived far/a.csv 1"]);
    assert_eq!(watched("fanotify sdev:"), 2);
    world.edit_beside(&SOURCE.replace("in/", "near/"));
    world.state(|state| state.key.ends_with("-2") && state.revision == 2 && state.baseline_done).await;
    world.write("near/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived near/a.csv 1"]);
    assert_eq!(watched("fanotify sdev:"), 1);
    world.write("in/a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/a.csv 1"]);
    world.stop().await;
}

/// Both ways to a directory are told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_a_mount_shows_twice() {
    if !has_own_mounts("fanotify::a_directory_that_a_mount_shows_twice") || !has_fanotify().await {
        return;
    }
    let mut world = World::new(SOURCE);
    for folder in ["in/one", "in/two"] {
        fs::create_dir_all(world.path(folder)).expect("a folder");
    }
    mount_bind(world.path("in/one"), world.path("in/two")).expect("mounted");
    world.start().await;
    world.write("in/one/a.csv", "1");
    assert_eq!(world.told(2).await, ["arrived in/one/a.csv 1", "arrived in/two/a.csv 1"]);
    world.stop().await;
}

/// Its other writers make no events here.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_file_system_is_polled_all_the_same() {
    if !has_own_mounts("fanotify::a_remote_file_system_is_polled_all_the_same") {
        return;
    }
    let mut world =
        World::new(&SOURCE.replace("in/", "far/").replace("fanotify'", "fanotify'\npoll = '100ms'"));
    let far = Far::mount(&world.path("far"));
    world.start().await;
    let state = world.state(|state| state.health == WatchHealth::Polling).await;
    assert_eq!(state.problem, None);
    far.write("a.csv", "1");
    assert_eq!(world.told(1).await, ["arrived far/a.csv 1"]);
    world.stop().await;
}
