//! The system's queue of events overflows, and nothing is lost. A program of its own: while the queue's length is changed, nothing
//! else here may make one.

#[path = "watch/world.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod world;

use std::{
    fs,
    time::{Duration, Instant},
};

use hetuflow_core::protocol::WatchHealth;
use world::World;

/// The length is read when a queue is made, so that it is short for a moment only. It is the whole machine's: where it may not be
/// set, nothing is tested.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_queue_of_events_overflows() {
    overflow("auto", "inotify").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_queue_of_fanotify_overflows() {
    if world::has_fanotify().await {
        overflow("fanotify", "fanotify").await;
    }
}

async fn overflow(backend: &str, system: &str) {
    let length = format!("/proc/sys/fs/{system}/max_queued_events");
    let queue = fs::File::open(&length).expect("the length of the queue");
    rustix::fs::flock(&queue, rustix::fs::FlockOperation::LockExclusive).expect("nobody else changes it");
    let before = fs::read_to_string(&length).expect("the length of the queue");
    let mut world =
        World::new(&format!("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"\nbackend = \"{backend}\""));
    fs::create_dir(world.path("in")).expect("a folder");
    if fs::write(&length, "16").is_err() {
        eprintln!("skipped: {length} may not be written");
        return;
    }
    let short = Restore(&length, &before);
    world.start().await;
    drop((short, queue));
    for directory in 0..50 {
        fs::create_dir(world.path(&format!("in/{directory}"))).expect("a folder");
        for file in 0..40 {
            fs::write(world.path(&format!("in/{directory}/{file}.csv")), "1").expect("written");
        }
        stir(&world);
    }
    // The kernel does lose events, and the watch says so with what helps.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !overflows(&world, system) {
        assert!(Instant::now() < deadline, "the queue never overflowed: {:?}", world.watcher().states());
        stir(&world);
    }
    assert_eq!(world.events(2000).await.len(), 2000);
    // Folders that were made while events were lost are watched too.
    world.write("in/49/last.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/49/last.csv 1"]);
}

/// More events than anybody can take from so short a queue, about names that nobody asks for; each of its own, for fanotify
/// makes one event of several about one name.
fn stir(world: &World) {
    let name = |number: usize| world.path(&format!("in/name-{number}"));
    fs::write(name(0), "").expect("written");
    for number in 0..1000 {
        fs::rename(name(number), name(number + 1)).expect("renamed");
    }
    fs::remove_file(name(1000)).expect("removed");
}

fn overflows(world: &World, system: &str) -> bool {
    let says = format!("raise its limit with `sysctl fs.{system}.max_queued_events=131072`");
    world.watcher().states().iter().any(|state| {
        let problem = state.problem.as_deref().unwrap_or_default();
        state.health == WatchHealth::Overflowing
            && problem.contains("queue of events overflowed")
            && problem.contains(&says)
    })
}

struct Restore<'a>(&'a str, &'a str);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        fs::write(self.0, self.1.trim()).expect("the length that was there");
    }
}
