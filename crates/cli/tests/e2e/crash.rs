//! Processes killed and cables cut at the worst moments: nothing is lost, nothing runs twice unasked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    on_both,
    process::signal,
    split::Split,
    world::{Database, World, on_push},
};

on_both! {
    a_server_killed_between_acceptance_and_dispatch_loses_nothing,
    an_agent_killed_mid_run_leaves_no_orphan_and_no_second_run,
    a_lost_attempt_is_repeated_when_the_job_says_so,
    a_link_cut_mid_run_changes_nothing,
    a_server_killed_mid_run_changes_nothing,
    everything_killed_under_load_settles_every_event_once,
    c10_no_kill_leaves_a_key_without_its_event,
}

async fn a_server_killed_between_acceptance_and_dispatch_loses_nothing(database: Database) {
    let job = on_push("echo \"$HETUFLOW_TASK_ID\" >> $DIR/effects", "");
    let mut split = Split::start(database, &[("deploy", &job)]).await;
    let answer = split.world.push("deploy", "delivery-1", "{}").await;
    assert_eq!(answer.status, 202);
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    split.world.server.kill().await;

    split.restart_server().await;
    let again = split.world.push("deploy", "delivery-1", "{}").await;
    assert_eq!((again.status, &again.body["event_id"]), (200, &answer.body["event_id"]));
    split.agent("late", &[]).await;
    split.world.task_until(&task, "succeeded").await;
    assert_eq!(split.world.effects(), [task]);
}

/// Says that it runs, then waits for `go`.
const WAITS: &str = "echo $$ > $DIR/pid.new; mv $DIR/pid.new $DIR/pid; echo start >> $DIR/effects; echo begun; \
                     while [ ! -e $DIR/go ]; do sleep 0.05; done; echo end >> $DIR/effects; echo done";

async fn an_agent_killed_mid_run_leaves_no_orphan_and_no_second_run(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push(WAITS, ""))]).await;
    split.agent("worker", &[]).await;
    let task = running(&split.world).await;
    let pid = fs::read_to_string(split.world.dir.path().join("pid")).expect("it runs");

    split.kill_agent("worker").await;
    split.agent("worker", &[]).await;
    let task = split.world.task_until(&task, "lost").await;
    assert_eq!(task["attempt"], 1);
    assert!(!runs(pid.trim()), "the orphan {pid} still runs");
    assert_eq!(split.world.effects(), ["start"]);
}

async fn a_lost_attempt_is_repeated_when_the_job_says_so(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push(WAITS, "max_retries = 1"))]).await;
    split.agent("worker", &[]).await;
    let task = running(&split.world).await;

    split.kill_agent("worker").await;
    fs::write(split.world.dir.path().join("go"), "").expect("written");
    split.agent("worker", &[]).await;
    let task = split.world.task_until(&task, "succeeded").await;
    assert_eq!(task["attempt"], 2);
}

async fn a_link_cut_mid_run_changes_nothing(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push(WAITS, "max_retries = 3"))]).await;
    split.agent("worker", &[]).await;
    let task = running(&split.world).await;

    split.link.cut();
    fs::write(split.world.dir.path().join("go"), "").expect("written");
    assert_eq!(split.world.effects_until(2).await, ["start", "end"]);
    split.mend_link();
    let task = split.world.task_until(&task, "succeeded").await;
    assert_eq!(task["attempt"], 1);
    assert_eq!(split.world.effects(), ["start", "end"]);
    let (_, output, _) = split.world.cli(&["task", "logs", task["id"].as_str().expect("an id")]).await;
    assert_eq!(output, "begun\ndone\n");
}

async fn a_server_killed_mid_run_changes_nothing(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push(WAITS, "max_retries = 3"))]).await;
    split.agent("worker", &[]).await;
    let task = running(&split.world).await;

    split.world.server.kill().await;
    fs::write(split.world.dir.path().join("go"), "").expect("written");
    assert_eq!(split.world.effects_until(2).await, ["start", "end"]);
    split.restart_server().await;
    let task = split.world.task_until(&task, "succeeded").await;
    assert_eq!(task["attempt"], 1);
    assert_eq!(split.world.effects(), ["start", "end"]);
}

async fn everything_killed_under_load_settles_every_event_once(database: Database) {
    let job = on_push("echo \"$HETUFLOW_EVENT_ID\" >> $DIR/effects", "on_lost = \"hold\"");
    let mut world = World::dev(database, &[("deploy", &job)]).await;
    let mut accepted = Vec::new();
    for round in 0..3 {
        let burst =
            futures_util::future::join_all((0..20).map(|n| async move { format!("{round}-{n}") })).await;
        let answers =
            futures_util::future::join_all(burst.iter().map(|delivery| world.push("deploy", delivery, "{}")))
                .await;
        accepted.extend(
            answers
                .iter()
                .filter(|answer| answer.status == 202)
                .map(|answer| answer.body["event_id"].as_str().expect("an event").to_owned()),
        );
        // At once: some tasks wait, some are on their way, some run.
        world.server.kill().await;
        world.restart().await;
    }
    assert_eq!(accepted.len(), 60);
    let tasks = world
        .until("every task has ended", async |world| {
            let tasks = world.tasks().await;
            let ended =
                |task: &serde_json::Value| matches!(task["status"].as_str(), Some("succeeded" | "lost"));
            (tasks.len() == accepted.len() && tasks.iter().all(ended)).then_some(tasks)
        })
        .await;
    let effects = world.effects();
    for event in &accepted {
        let task = tasks.iter().find(|task| task["event_id"] == **event).expect("each event has its task");
        let runs = effects.iter().filter(|effect| *effect == event).count();
        match task["status"].as_str() {
            Some("succeeded") => assert_eq!(runs, 1, "{event} succeeded"),
            _ => assert!(runs <= 1, "{event} ran {runs} times"),
        }
    }
}

/// In each round the server dies after a few of many answers, so that commits are under way. Then every delivery comes again.
async fn c10_no_kill_leaves_a_key_without_its_event(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push("true", ""))]).await;
    let mut known = BTreeMap::new();
    for round in 0..5 {
        let names: Vec<String> = (0..40).map(|n| format!("{round}-{n}")).collect();
        let mut sent: FuturesUnordered<_> =
            names.iter().map(|name| split.world.try_push("deploy", name, "{}")).collect();
        let mut answers = Vec::new();
        while answers.len() <= round * 4 {
            answers.extend(sent.next().await.expect("more come"));
        }
        signal(split.world.server.id(), "KILL");
        answers.extend(sent.collect::<Vec<_>>().await.into_iter().flatten());
        split.restart_server().await;
        for name in &names {
            let again = split.world.push("deploy", name, "{}").await;
            let id = again.body["event_id"].as_str().expect("an id").to_owned();
            assert_eq!(again.body["task_ids"].as_array().map(Vec::len), Some(1), "{again:?}");
            let event = split.world.get(&format!("events/{id}")).await;
            assert_eq!(
                (&event["id"], &event["verdict"]["verdict"]),
                (&again.body["event_id"], &"accepted".into())
            );
            known.insert(name.clone(), id);
        }
        for answer in answers.iter().filter(|answer| answer.status == 202) {
            assert!(known.values().any(|id| answer.body["event_id"] == **id), "{answer:?} was forgotten");
        }
    }
    let stored = split.world.get("events?limit=500").await["items"].as_array().map(Vec::len);
    assert_eq!((stored, known.len()), (Some(200), 200));
    assert_eq!(known.values().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(split.world.tasks().await.len(), 200);
}

/// A process that ended counts as gone, whether or not its new parent has noticed.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with(['Z', 'X']));
    state == Some(false)
}

/// Pushes, and returns the task once its process has said that it runs.
async fn running(world: &World) -> String {
    let answer = world.push("deploy", "delivery-1", "{}").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    world.effects_until(1).await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    world.task_until(&task, "running").await;
    task
}
