//! Editing, breaking, mending and deleting trigger files while it runs.

use crate::{
    on_both,
    world::{Database, World, on_push},
};

on_both! { edits_take_effect_and_breaks_keep_the_last_good_version }

async fn edits_take_effect_and_breaks_keep_the_last_good_version(database: Database) {
    let say = |word: &str| on_push(&format!("echo {word} >> $DIR/effects"), "");
    let world = World::dev(database, &[("deploy", &say("one"))]).await;
    push(&world, "1").await;
    assert_eq!(world.effects_until(1).await, ["one"]);

    world.write_trigger("deploy", &say("two"));
    revision(&world, 2).await;
    push(&world, "2").await;
    assert_eq!(world.effects_until(2).await, ["one", "two"]);

    let broken = say("three").replace("scheme = \"github\"", "scheme = \"gitbub\"");
    world.write_trigger("deploy", &broken);
    let trigger = world
        .until("the problem is shown", async |world| {
            let trigger = world.get("triggers/deploy").await;
            trigger["problem"].is_string().then_some(trigger)
        })
        .await;
    let problem = trigger["problem"].as_str().expect("a text");
    assert!(problem.contains("deploy.toml:2:") && problem.contains("github"), "{problem}");
    let (_, listed, _) = world.cli(&["trigger", "list"]).await;
    assert!(listed.contains("deploy.toml:2:"), "{listed}");
    push(&world, "3").await;
    assert_eq!(world.effects_until(3).await, ["one", "two", "two"]);

    world.write_trigger("deploy", &say("four"));
    revision(&world, 3).await;
    world.write_trigger("another", &say("another"));
    world
        .until("it is added", async |world| {
            (world.get("triggers/another").await["revision"] == 1).then_some(())
        })
        .await;
    push(&world, "4").await;
    assert_eq!(world.effects_until(4).await[3], "four");

    world.remove_trigger("deploy");
    world
        .until("it is gone", async |world| {
            (world.get("triggers/deploy").await["status"] == 404).then_some(())
        })
        .await;
    assert_eq!(world.push("deploy", "5", "{}").await.status, 404);
    assert_eq!(world.push("another", "5", "{}").await.status, 202);
}

async fn push(world: &World, delivery: &str) {
    assert_eq!(world.push("deploy", delivery, "{}").await.status, 202);
}

async fn revision(world: &World, revision: i64) {
    world
        .until(&format!("revision {revision}"), async |world| {
            let trigger = world.get("triggers/deploy").await;
            (trigger["revision"] == revision && trigger["problem"].is_null()).then_some(())
        })
        .await;
}
