//! The system's queue of events overflows, and nothing is lost. A program of its own: while the queue's length is changed, nothing
//! else here may make one.

#[path = "watch/world.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod world;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hetuflow_core::protocol::WatchHealth;
use world::World;

const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";

/// The length is read when a queue is made, so that it is short for a moment only. It is the whole machine's: where it may not be
/// set, nothing is tested.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_queue_of_events_overflows() {
    let queue = fs::File::open(QUEUE).expect("the length of the queue");
    rustix::fs::flock(&queue, rustix::fs::FlockOperation::LockExclusive).expect("nobody else changes it");
    let before = fs::read_to_string(QUEUE).expect("the length of the queue");
    let mut world = World::new("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"");
    fs::create_dir(world.path("in")).expect("a folder");
    if fs::write(QUEUE, "16").is_err() {
        eprintln!("skipped: {QUEUE} may not be written");
        return;
    }
    let short = Restore(&before);
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
    while !overflows(&world) {
        assert!(Instant::now() < deadline, "the queue never overflowed: {:?}", world.watcher().states());
        stir(&world);
    }
    assert_eq!(world.events(2000).await.len(), 2000);
    // Folders that were made while events were lost are watched too.
    world.write("in/49/last.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/49/last.csv 1"]);
}

/// More events than anybody can take from so short a queue, about a name that nobody asks for.
fn stir(world: &World) {
    let (one, other) = (world.path("in/one"), world.path("in/other"));
    fs::write(&one, "").expect("written");
    for _ in 0..500 {
        fs::rename(&one, &other).expect("renamed");
        fs::rename(&other, &one).expect("renamed back");
    }
}

fn overflows(world: &World) -> bool {
    let says = "raise its limit with `sysctl fs.inotify.max_queued_events=131072`";
    world.watcher().states().iter().any(|state| {
        let problem = state.problem.as_deref().unwrap_or_default();
        state.health == WatchHealth::Overflowing
            && problem.contains("queue of events overflowed")
            && problem.contains(says)
    })
}

struct Restore<'a>(&'a str);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        fs::write(Path::new(QUEUE), self.0.trim()).expect("the length that was there");
    }
}
