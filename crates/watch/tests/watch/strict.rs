//! A strict order: of each group one file, or one batch, is under way at a time.

use hetuflow_core::protocol::{FileOutcome, FileVerdict};

use crate::world::World;

fn source(more: &str) -> String {
    format!("paths = [\"in/**/*.csv\"]\nsettle = \"0s\"\n{more}")
}

async fn start(more: &str) -> World {
    let mut world = World::new(&source(more));
    world.write("in/sub/keep", "");
    world.start().await;
    world
}

async fn behind(world: &World, count: u64) {
    world.state(|state| state.behind == count && state.settling == count).await;
}

fn write(world: &World, names: &[&str]) {
    for name in names {
        world.write(&format!("in/{name}.csv"), "1");
    }
}

/// The server has what waits, and its tasks end like this; then the next one is told.
async fn next(world: &mut World, outcome: FileOutcome) -> String {
    world.acknowledge().await;
    world.end(outcome).await;
    world.told(1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_told_when_the_one_before_has_ended_also_over_a_restart() {
    let mut world = start("order = \"path\"\nstrict = {}").await;
    write(&world, &["b"]);
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
    write(&world, &["d", "c", "e"]);
    behind(&world, 3).await;
    assert_eq!(world.waiting().await, ["b.csv"]);
    // Neither the acknowledgement nor a restart lets it go, before or after it.
    world.stop().await;
    world.start().await;
    behind(&world, 3).await;
    world.acknowledge().await;
    let ahead = world.state(|state| state.ahead.is_some()).await.ahead;
    world.stop().await;
    world.start().await;
    let state = world.state(|state| state.behind == 3).await;
    assert_eq!((state.ahead, state.problem), (ahead, None));
    world.end(FileOutcome::Open).await;
    assert!(world.waiting().await.is_empty());
    world.end(FileOutcome::Succeeded).await;
    assert_eq!(world.told(1).await, ["arrived in/c.csv 1"]);
    // Of those that wait, the first goes, whenever it came.
    write(&world, &["a"]);
    behind(&world, 3).await;
    // One that matched nothing, or that somebody cancelled, keeps nobody.
    assert_eq!(next(&mut world, FileOutcome::Unknown).await, "arrived in/a.csv 1");
    assert_eq!(next(&mut world, FileOutcome::Cancelled).await, "arrived in/d.csv 1");
    std::fs::remove_file(world.path("in/e.csv")).expect("removed");
    write(&world, &["f"]);
    assert_eq!(next(&mut world, FileOutcome::Succeeded).await, "arrived in/f.csv 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_goes_for_itself() {
    let more = "strict = { group_by = \"capture:site\" }\ncapture = '^(?<site>[a-z])'\norder = \"natural\"";
    let mut world = start(more).await;
    write(&world, &["a10", "a9", "b2", "b1", "c1"]);
    // Which of a group is seen first is nobody's promise; that it is one is.
    let first = world.told(3).await;
    assert_eq!(first.iter().map(|one| &one[11..12]).collect::<Vec<_>>(), ["a", "b", "c"], "{first:?}");
    behind(&world, 2).await;
    world.acknowledge().await;
    world.end(FileOutcome::Succeeded).await;
    assert_eq!(world.told(2).await.len(), 2);
    behind(&world, 0).await;
    let mut world = start("strict = { group_by = \"directory\" }").await;
    write(&world, &["x/1", "y/1"]);
    world.events(2).await;
    write(&world, &["x/2"]);
    behind(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_holds_until_somebody_has_seen_to_it() {
    let mut world = start("strict = { stuck_after = \"1ms\" }").await;
    write(&world, &["a"]);
    world.events(1).await;
    write(&world, &["b"]);
    behind(&world, 1).await;
    world.acknowledge().await;
    world.end(FileOutcome::Failed).await;
    let state = world.state(|state| state.problem.is_some()).await;
    let id = state.ahead.expect("an event");
    let why = format!(
        "the task of event {id} comes before it and has failed: retry it, or `hetuflow event replay {id}`"
    );
    assert_eq!(state.problem, Some(format!("files wait: {why}")));
    assert_eq!(world.told(1).await, [format!("stuck in/b.csv 1 {why}")]);
    world.acknowledge().await;
    // It is told once, however often it fails and whenever one looks.
    world.stop().await;
    world.start().await;
    world.state(|state| state.stuck == 1).await;
    world.acknowledge().await;
    world.end(FileOutcome::Open).await;
    world.state(|state| state.problem.is_none()).await;
    world.end(FileOutcome::Succeeded).await;
    assert_eq!(world.told(1).await, ["arrived in/b.csv 1"]);
    write(&world, &["c"]);
    behind(&world, 1).await;
    world.acknowledge().await;
    world.end(FileOutcome::Lost).await;
    world.state(|state| state.problem.as_ref().is_some_and(|problem| problem.contains("is lost"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_may_be_passed_over() {
    let mut world = start("strict = { on_failure = \"continue\" }").await;
    write(&world, &["a"]);
    world.events(1).await;
    write(&world, &["b"]);
    behind(&world, 1).await;
    assert_eq!(next(&mut world, FileOutcome::Failed).await, "arrived in/b.csv 1");
    // An edit holds for who waits already.
    world.edit(&source("strict = {}")).await;
    write(&world, &["c"]);
    behind(&world, 1).await;
    world.acknowledge().await;
    world.end(FileOutcome::Failed).await;
    world.state(|state| state.problem.is_some()).await;
    world.edit(&source("strict = { on_failure = \"continue\" }")).await;
    world.end(FileOutcome::Failed).await;
    assert_eq!(world.told(1).await, ["arrived in/c.csv 1"]);
    write(&world, &["d", "e"]);
    behind(&world, 2).await;
    world.edit(&source("")).await;
    world.events(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_waited_for_as_well() {
    let more = "capture = '^(?<seq>[0-9]+)'\norder = \"capture:seq\"\nstrict = {}\nsequence = { gap_timeout = \"1h\" }";
    let mut world = start(more).await;
    write(&world, &["1"]);
    world.events(1).await;
    write(&world, &["2", "4"]);
    behind(&world, 2).await;
    assert_eq!(next(&mut world, FileOutcome::Succeeded).await, "arrived in/2.csv 1");
    world.acknowledge().await;
    world.end(FileOutcome::Succeeded).await;
    behind(&world, 1).await;
    write(&world, &["3"]);
    assert_eq!(world.told(1).await, ["arrived in/3.csv 1"]);
    assert_eq!(next(&mut world, FileOutcome::Succeeded).await, "arrived in/4.csv 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_of_a_group_goes_at_a_time() {
    let more =
        "strict = { stuck_after = \"1ms\" }\norder = \"path\"\nbatch = { max_files = 2, max_wait = \"1h\" }";
    let mut world = start(more).await;
    write(&world, &["a", "b"]);
    assert_eq!(world.told(1).await, ["batch in 2"]);
    write(&world, &["c", "d", "e"]);
    world.state(|state| state.tracked == 5).await;
    world.acknowledge().await;
    assert!(world.waiting().await.is_empty());
    world.end(FileOutcome::Failed).await;
    let stuck = world.events(1).await.remove(0);
    assert_eq!((stuck.facts.change.as_str(), stuck.facts.files.len()), ("stuck", 0));
    assert!(stuck.facts.path.ends_with("/c.csv"), "{stuck:?}");
    world.acknowledge().await;
    world.end(FileOutcome::Succeeded).await;
    let batch = world.events(1).await.remove(0);
    let names: Vec<_> = batch.facts.files.iter().map(|file| &file.path[file.path.len() - 5..]).collect();
    assert_eq!(names, ["c.csv", "d.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_forgotten_them_is_told_of_one_at_a_time() {
    let mut world = start("order = \"path\"\nstrict = {}").await;
    write(&world, &["a"]);
    world.events(1).await;
    write(&world, &["b", "c"]);
    behind(&world, 2).await;
    next(&mut world, FileOutcome::Succeeded).await;
    next(&mut world, FileOutcome::Succeeded).await;
    world.acknowledge().await;
    write(&world, &["d"]);
    behind(&world, 1).await;
    let asked = world.asked().await;
    assert_eq!(asked.len(), 1);
    world.answer(asked, FileVerdict::Accepted).await;
    for name in ["a.csv", "b.csv", "c.csv"] {
        assert_eq!(world.waiting().await, [name]);
        world.acknowledge().await;
        assert!(world.waiting().await.is_empty());
        behind(&world, 1).await;
        world.end(FileOutcome::Succeeded).await;
    }
    assert_eq!(world.told(1).await, ["arrived in/d.csv 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_memory_tells_them_again_one_at_a_time() {
    let mut world = start("order = \"path\"\nstrict = {}").await;
    for name in ["a", "b", "c"] {
        write(&world, &[name]);
        world.events(1).await;
        world.acknowledge().await;
        if name != "c" {
            world.end(FileOutcome::Succeeded).await;
        }
    }
    world.stop().await;
    for part in ["watch.db", "watch.db-wal", "watch.db-shm"] {
        let _ = std::fs::remove_file(world.state_folder().join(part));
    }
    write(&world, &["d"]);
    world.forget_told();
    world.start().await;
    let mut told = world.told(1).await;
    for _ in 0..2 {
        // The server knows it, and says that its tasks have ended.
        told.push(next(&mut world, FileOutcome::Succeeded).await);
    }
    assert_eq!(told, ["arrived in/a.csv 1", "arrived in/b.csv 1", "arrived in/c.csv 1"]);
    // This one runs still.
    world.acknowledge().await;
    world.end(FileOutcome::Open).await;
    behind(&world, 1).await;
    world.end(FileOutcome::Succeeded).await;
    assert_eq!(world.told(1).await, ["arrived in/d.csv 1"]);
}
