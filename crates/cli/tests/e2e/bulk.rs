//! An operator looks at what ended badly, and decides about all of it at once.

use std::fs;

use serde_json::Value;

use crate::{
    on_both,
    world::{Database, World, on_push},
};

on_both! { what_failed_is_retried_at_once }

async fn what_failed_is_retried_at_once(database: Database) {
    let script = "echo $HETUFLOW_TASK_ID $HETUFLOW_ATTEMPT >> $DIR/effects; [ -e $DIR/mended ] || exit 75";
    let others = on_push("exit 3", "");
    let world = World::dev(database, &[("deploy", &on_push(script, "")), ("other", &others)]).await;
    let mut tasks = Vec::new();
    for (hook, n) in [("deploy", 0), ("deploy", 1), ("deploy", 2), ("other", 3)] {
        let answer = world.push(hook, &format!("delivery-{n}"), "{}").await;
        let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
        world.task_until(&task, "failed").await;
        tasks.push(task);
    }
    let (code, listed, _) =
        world.cli(&["task", "list", "--status", "failed,lost", "--trigger", "deploy"]).await;
    assert_eq!(code, Some(0));
    assert!(tasks[..3].iter().all(|task| listed.contains(task)) && !listed.contains(&tasks[3]), "{listed}");

    // Nobody can be asked here, so that without --yes nothing is done.
    let deploys = ["task", "retry", "--all", "--trigger", "deploy", "--since", "1h"];
    let (code, _, said) = world.cli(&deploys).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("would retry 3 tasks (failed or timed_out, trigger deploy, since "), "{said}");
    let (code, _, said) = world.cli(&["task", "retry", &tasks[0], "--trigger", "deploy"]).await;
    assert_eq!(code, Some(2), "{said}");

    fs::write(world.dir.path().join("mended"), "").expect("written");
    let all: Vec<&str> = deploys.iter().copied().chain(["--yes", "--output", "json"]).collect();
    let (code, summary, said) = world.cli(&all).await;
    assert_eq!(code, Some(0), "{said}");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary, serde_json::json!({ "matched": 3, "retried": 3, "skipped": 0 }));
    assert!(said.contains("3 of 3"), "{said}");
    for task in &tasks[..3] {
        assert_eq!(world.task_until(task, "succeeded").await["attempt"], 2);
    }
    assert_eq!(world.get(&format!("tasks/{}", tasks[3])).await["status"], "failed");
    let mut effects = world.effects();
    effects.sort_unstable();
    let mut expected: Vec<_> =
        tasks[..3].iter().flat_map(|id| [format!("{id} 1"), format!("{id} 2")]).collect();
    expected.sort_unstable();
    assert_eq!(effects, expected);

    let (code, said, _) = world.cli(&["task", "retry", "--all", "--trigger", "deploy", "--yes"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "No task is like that.\n"));
}
