//! A signed webhook runs a process once.

use crate::{
    on_both,
    world::{Database, SECRET, World, github_signature, on_push},
};

on_both! { a_push_runs_its_job_once, a_wrong_signature_runs_nothing, the_command_line_shows_all_of_it, ten_copies_at_once_are_one_event, a_failing_job_is_retried, its_sender_waits_and_reads_the_output, a_trigger_says_what_its_sender_sees, only_the_ends_that_a_job_lists_are_retried }

const MAIN: &str = r#"{"ref":"refs/heads/main","deleted":false}"#;

fn deploy() -> String {
    on_push("echo \"$REF $HETUFLOW_ATTEMPT\" >> $DIR/effects", "environment = { REF = \"{{ body.ref }}\" }")
}

async fn a_push_runs_its_job_once(database: Database) {
    let world = World::dev(database, &[("deploy", &deploy())]).await;

    let first = world.push("deploy", "delivery-1", MAIN).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.body["duplicate"], false);
    let task = first.body["task_ids"][0].as_str().expect("one task").to_owned();
    world.task_until(&task, "succeeded").await;
    assert_eq!(world.effects(), ["refs/heads/main 1"]);

    let again = world.push("deploy", "delivery-1", MAIN).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(again.body["duplicate"], true);
    assert_eq!(again.body["event_id"], first.body["event_id"]);
    assert_eq!(again.body["task_ids"], first.body["task_ids"]);
    assert_eq!(world.tasks().await.len(), 1);
    assert_eq!(world.effects(), ["refs/heads/main 1"]);
}

async fn a_wrong_signature_runs_nothing(database: Database) {
    let world = World::dev(database, &[("deploy", &deploy())]).await;
    let wrong = github_signature("another secret", MAIN.as_bytes());
    assert_eq!(world.post_hook("deploy", "delivery-1", MAIN, &wrong).await.status, 401);
    let other_body = github_signature(SECRET, b"{}");
    assert_eq!(world.post_hook("deploy", "delivery-1", MAIN, &other_body).await.status, 401);

    // The refused delivery did not use up its id.
    assert_eq!(world.push("deploy", "delivery-1", MAIN).await.status, 202);
    assert_eq!(world.effects_until(1).await.len(), 1);
    assert_eq!(world.tasks().await.len(), 1);
}

async fn ten_copies_at_once_are_one_event(database: Database) {
    let world = World::dev(database, &[("deploy", &deploy())]).await;
    let copies = (0..10).map(|_| world.push("deploy", "delivery-1", MAIN));
    let answers = futures_util::future::join_all(copies).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 1, "{answers:?}");
    let first = &answers[0].body["event_id"];
    assert!(answers.iter().all(|answer| answer.body["event_id"] == *first), "{answers:?}");
    let task = answers[0].body["task_ids"][0].as_str().expect("one task").to_owned();
    world.task_until(&task, "succeeded").await;
    assert_eq!(world.effects().len(), 1);
}

async fn its_sender_waits_and_reads_the_output(database: Database) {
    let job = on_push(
        "echo begin $HETUFLOW_ATTEMPT; test \"$HETUFLOW_ATTEMPT\" = 2 && exit 3; exit 1",
        "max_retries = 1\nretry_interval = \"10ms\"",
    );
    let world = World::dev(database, &[("deploy", &job)]).await;
    let (answer, location) = world.push_and_wait("deploy", "delivery-1", MAIN).await;
    assert_eq!((answer.status, &answer.body["done"]), (200, &true.into()), "{answer:?}");
    let task = &answer.body["tasks"][0];
    assert_eq!((&task["status"], &task["attempt"]), (&"failed".into(), &2.into()), "{answer:?}");
    assert_eq!(task["outcome"]["exit_code"], 3);
    assert_eq!(task["id"], answer.body["task_ids"][0]);

    let location = location.expect("an address");
    let all = world.follow(&location, None).await;
    let said: Vec<&str> = all.iter().filter_map(|event| event.data["text"].as_str()).collect();
    assert_eq!(said.concat(), "begin 1\nbegin 2\n", "{all:?}");
    let (first, end) = (&all[0], &all[all.len() - 1]);
    assert_eq!((first.name.as_str(), &first.data["attempt"]), ("output", &1.into()));
    assert_eq!((end.name.as_str(), &end.data["done"]), ("end", &true.into()));
    let rest = world.follow(&location, first.id.as_deref()).await;
    assert_eq!(rest.len(), all.len() - 1, "{rest:?}");
    assert_eq!(rest[0].data, all[1].data);
}

async fn a_trigger_says_what_its_sender_sees(database: Database) {
    let with = |sees: &str| {
        let sees = format!("events = [\"push\"]\nsender_sees = \"{sees}\"\n");
        on_push("echo secret", "").replace("events = [\"push\"]\n", &sees)
    };
    let world = World::dev(database, &[("some", &with("status")), ("none", &with("nothing"))]).await;
    let (answer, location) = world.push_and_wait("some", "delivery-1", MAIN).await;
    assert_eq!(answer.body["tasks"][0]["status"], "succeeded", "{answer:?}");
    let url = format!("http://{}{}", world.places.hooks, location.expect("an address"));
    let stream = world.http.get(url).header("Accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(stream.status(), 403);
    let (answer, location) = world.push_and_wait("none", "delivery-1", MAIN).await;
    assert_eq!((answer.status, location), (202, None), "it does not even wait");
    assert!(answer.body.get("tasks").is_none(), "{answer:?}");
}

async fn a_failing_job_is_retried(database: Database) {
    let job = on_push(
        "echo \"$HETUFLOW_ATTEMPT\" >> $DIR/effects; test \"$HETUFLOW_ATTEMPT\" = 3",
        "max_retries = 3\nretry_interval = \"10ms\"",
    );
    let world = World::dev(database, &[("deploy", &job)]).await;
    let answer = world.push("deploy", "delivery-1", MAIN).await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    let task = world.task_until(&task, "succeeded").await;
    assert_eq!(task["attempt"], 3);
    assert_eq!(world.effects(), ["1", "2", "3"]);
}

async fn only_the_ends_that_a_job_lists_are_retried(database: Database) {
    let job = on_push(
        "echo \"$HETUFLOW_ATTEMPT\" >> $DIR/effects; test \"$HETUFLOW_ATTEMPT\" = 1 && exit 75; exit 64",
        "max_retries = 5\nretry_interval = \"10ms\"\nretry = { on = [\"exit\"], exit_codes = [75] }",
    );
    let world = World::dev(database, &[("deploy", &job)]).await;
    let answer = world.push("deploy", "delivery-1", MAIN).await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    let task = world.task_until(&task, "failed").await;
    assert_eq!((&task["attempt"], &task["outcome"]["exit_code"]), (&2.into(), &64.into()));
    assert_eq!(world.effects(), ["1", "2"]);
}

async fn the_command_line_shows_all_of_it(database: Database) {
    let world =
        World::dev(database, &[("deploy", &on_push("echo to stdout; echo to stderr >&2; exit 3", ""))]).await;
    let answer = world.push("deploy", "delivery-1", MAIN).await;
    let event = answer.body["event_id"].as_str().expect("an event").to_owned();
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();

    let (code, output, _) = world.cli(&["task", "logs", &task, "--follow"]).await;
    assert_eq!(code, Some(1), "it ended badly: {output}");
    assert!(output.contains("to stdout") && output.contains("to stderr"), "{output}");

    let (code, output, error) = world.cli(&["event", "show", &event]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{output}");
    assert!(output.contains("matched") && output.contains(&task), "{output}");

    let (_, output, _) = world.cli(&["--output", "json", "task", "list"]).await;
    let list: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(list["items"][0]["outcome"]["exit_code"], 3, "{output}");

    let (_, output, _) = world.cli(&["agent", "list"]).await;
    assert!(output.contains("online"), "{output}");
    let (code, _, error) = world.cli(&["task", "show", "0199a0c0-0000-7000-8000-000000000000"]).await;
    assert_eq!(code, Some(4), "{error}");
}
