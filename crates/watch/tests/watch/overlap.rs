//! Batches of which the server knows some files from other events.

use hetuflow_core::{
    id::EventId,
    protocol::{FileBatchAck, FileEvent, FileOutcome, FileVerdict},
};
use jiff::Timestamp;

use crate::{scenario::until, world::World};

async fn batch_of(names: &[&str], more: &str) -> (World, FileEvent) {
    let source = format!(
        "paths = [\"in/*.csv\"]\nsettle = \"0s\"\nbatch = {{ max_files = {} }}\norder = \"path\"\n{more}",
        names.len()
    );
    let mut world = World::new(&source);
    world.write("in/keep.txt", "");
    world.start().await;
    for name in names {
        world.write(&format!("in/{name}.csv"), name);
    }
    let event = world.events(1).await.remove(0);
    assert_eq!(paths(&event), names);
    (world, event)
}

fn paths(event: &FileEvent) -> Vec<&str> {
    let names = event.facts.files.iter().filter_map(|file| file.path.rsplit('/').next());
    names.filter_map(|name| name.strip_suffix(".csv")).collect()
}

fn id(second: i64) -> EventId {
    EventId::at(Timestamp::from_second(second).expect("a time"))
}

/// The server knows these members.
async fn overlaps(world: &World, event: &FileEvent, known: &[(usize, EventId)]) {
    let ack = FileBatchAck {
        key: event.key.clone(),
        dedupe: event.dedupe.clone(),
        verdict: FileVerdict::Overlaps,
        event_id: None,
        known: known.iter().map(|(member, id)| (event.members[*member].clone(), *id)).collect(),
    };
    world.watcher().acknowledge(&[ack]).await.expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_told_without_them_and_each_shares_the_fate_of_its_own_event() {
    let (mut world, event) = batch_of(&["a", "bb", "ccc"], "after_success = \"delete\"").await;
    assert_eq!((event.members.len(), event.facts.size), (3, 6));
    let first = id(1);
    overlaps(&world, &event, &[(1, first)]).await;
    let rest = world.events(1).await.remove(0);
    assert_eq!((paths(&rest), rest.facts.size), (vec!["a", "ccc"], 4));
    assert_eq!(rest.members, [event.members[0].clone(), event.members[2].clone()]);
    assert_ne!(rest.dedupe, event.dedupe);
    assert_eq!((&rest.facts.path, rest.seen_at), (&event.facts.path, event.seen_at));
    // It is what waits from now on, also over a restart, and what is answered twice changes nothing.
    world.stop().await;
    world.start().await;
    overlaps(&world, &event, &[(1, first)]).await;
    world.forget_told();
    assert_eq!(world.events(1).await, [rest]);
    world.acknowledge().await;
    assert!(world.waiting().await.is_empty());
    let awaited: Vec<EventId> =
        world.watcher().awaited(0, 9).await.expect("the state").into_iter().map(|(_, id)| id).collect();
    assert_eq!(awaited.len(), 2);
    assert!(awaited.contains(&first));
    world.watcher().settle(&[(first, FileOutcome::Succeeded)]).await.expect("settled");
    world.state(|state| state.tracked == 2).await;
    let there = ["a", "bb", "ccc"].map(|name| world.path(&format!("in/{name}.csv")).exists());
    assert_eq!(there, [true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_known_whole_is_not_told() {
    let (mut world, event) = batch_of(&["a", "b"], "").await;
    overlaps(&world, &event, &[(0, id(1)), (1, id(2))]).await;
    assert!(world.waiting().await.is_empty());
    world.write("in/c.csv", "");
    world.write("in/d.csv", "");
    assert_eq!(paths(&world.events(1).await[0]), ["c", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_line_the_rest_waits_for_the_end_of_what_is_known() {
    let (mut world, event) = batch_of(&["a", "b"], "strict = {}").await;
    overlaps(&world, &event, &[(0, id(1))]).await;
    assert!(world.waiting().await.is_empty());
    assert_eq!(world.watcher().followed(0, 9).await.expect("the state").len(), 1);
    world.end(FileOutcome::Succeeded).await;
    assert_eq!(paths(&world.events(1).await[0]), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_about_and_is_known_in_part_is_told_again() {
    let (mut world, event) = batch_of(&["a", "b"], "").await;
    world.acknowledge().await;
    let asked = world.asked().await;
    assert_eq!(asked.as_slice(), std::slice::from_ref(&event));
    overlaps(&world, &event, &[(0, id(1))]).await;
    world.forget_told();
    assert_eq!(world.events(1).await.as_slice(), std::slice::from_ref(&event));
    overlaps(&world, &event, &[(0, id(1))]).await;
    assert_eq!(paths(&world.events(1).await[0]), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_of_one_that_is_known_goes_and_that_of_the_rest_stays() {
    let source = "paths = [\"in/*.csv\"]\nsettle = \"0s\"\nbatch = { max_files = 2 }\norder = \"path\"\n\
        claim = \"rename\"\ndone_marker = \"{name}.done\"";
    let mut world = World::new(source);
    world.write("in/keep.txt", "");
    world.start().await;
    for name in ["a", "b"] {
        world.write(&format!("in/{name}.csv"), name);
        world.write(&format!("in/{name}.csv.done"), "");
    }
    let event = world.events(1).await.remove(0);
    overlaps(&world, &event, &[(0, id(1))]).await;
    until(|| !world.path("in/a.csv.done").exists()).await;
    assert!(world.path("in/b.csv.done").exists(), "its file is not taken yet");
    world.acknowledge().await;
    until(|| !world.path("in/b.csv.done").exists()).await;
}
