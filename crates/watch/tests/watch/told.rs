//! A server that has forgotten what it was told, as one whose database was restored from a backup.

use hetuflow_core::protocol::FileVerdict;

use crate::world::World;

async fn three_told(source: &str) -> World {
    let mut world = World::new(source);
    world.write("in/keep.txt", "");
    world.start().await;
    for name in ["a", "b", "c"] {
        world.write(&format!("in/{name}.csv"), name);
        world.events(1).await;
        world.acknowledge().await;
    }
    assert!(world.waiting().await.is_empty());
    world
}

const SOURCE: &str = "paths = [\"in/*.csv\"]\nsettle = \"0s\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_knows_is_told_once() {
    let world = three_told(SOURCE).await;
    for _ in 0..2 {
        let asked = world.asked().await;
        assert_eq!(asked.len(), 1);
        assert!(asked[0].facts.path.ends_with("/c.csv"), "the last one");
        world.answer(asked, FileVerdict::Duplicate).await;
        assert!(world.waiting().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_forgotten_is_told_again_under_the_same_ids() {
    let mut world = three_told(&format!("{SOURCE}\nafter_success = \"delete\"")).await;
    assert_eq!(world.watcher().awaited(0, 9).await.expect("the state").len(), 3);
    let asked = world.asked().await;
    let last = asked[0].dedupe.clone();
    // Also over a crash right after the answer.
    world.answer(asked, FileVerdict::Accepted).await;
    world.stop().await;
    world.start().await;
    assert_eq!(world.waiting().await, ["a.csv", "b.csv", "c.csv"]);
    assert!(world.watcher().awaited(0, 9).await.expect("the state").is_empty(), "not before it has them");
    world.forget_told();
    assert!(world.events(3).await.iter().any(|event| event.dedupe == last));
    world.acknowledge().await;
    assert_eq!(world.watcher().awaited(0, 9).await.expect("the state").len(), 3);
    assert!(world.waiting().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_an_answer_makes_everything_be_told_again() {
    let mut world = three_told(SOURCE).await;
    assert_eq!(world.asked().await.len(), 1);
    world.stop().await;
    world.start().await;
    assert!(world.asked().await.is_empty());
    assert_eq!(world.waiting().await, ["a.csv", "b.csv", "c.csv"]);
    world.acknowledge().await;
    assert_eq!(world.asked().await.len(), 1, "and then it is asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_what_it_need_not_know() {
    let short = format!("{SOURCE}\ndedupe = {{ key = [\"path\", \"identity\"], ttl = \"0s\" }}");
    let world = three_told(&short).await;
    assert!(world.asked().await.is_empty());
    let mut world = three_told(SOURCE).await;
    // Files of a shared file system go by another name.
    world.edit(&format!("{SOURCE}\nshare = \"nfs\"")).await;
    assert!(world.asked().await.is_empty());
    world.edit(SOURCE).await;
    assert_eq!(world.asked().await.len(), 1);
    world.watcher().forget_told().await.expect("forgotten");
    assert!(world.asked().await.is_empty(), "another server");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_than_a_message_holds() {
    let mut world = three_told(SOURCE).await;
    world.set_beside("paths = [\"in/*.txt\"]\nsettle = \"0s\"").await;
    world.write("in/d.txt", "1");
    world.events(1).await;
    world.acknowledge().await;
    let asked = world.watcher().ask(1).await.expect("the state");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].facts.path.ends_with("/d.txt"), "the last of all");
    world.answer(asked, FileVerdict::Accepted).await;
    assert_eq!(world.waiting().await, ["a.csv", "b.csv", "c.csv", "d.txt"]);
}
