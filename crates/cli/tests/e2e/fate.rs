//! Attempts whose fate nobody knows: each follows its job's own word, and nothing runs again unasked.

use std::{fs, path::Path};

use crate::{
    on_both,
    split::Split,
    world::{Database, World, on_push},
};

on_both! {
    a_wiped_journal_loses_what_ran_and_each_job_says_what_follows,
    a_journal_rolled_back_loses_what_ran_and_each_job_says_what_follows,
    a_result_that_comes_after_the_loss_is_refused_and_dropped,
}

/// Says that it runs, then waits for `go`, but not for ever.
const WAITS: &str = "echo $HETUFLOW_TASK_ID $HETUFLOW_ATTEMPT >> $DIR/effects; \
                     while [ -d $DIR ] && [ ! -e $DIR/go ]; do sleep 0.05; done";

async fn three_jobs(database: Database) -> Split {
    let hold = on_push(WAITS, "");
    let fail = on_push(WAITS, "max_retries = 2\non_lost = \"fail\"");
    let retry = on_push(WAITS, "max_retries = 2");
    Split::start(database, &[("hold", &hold), ("fail", &fail), ("retry", &retry)]).await
}

/// Runs one task of each job, and yields them once their processes run.
async fn run_all(world: &World) -> [String; 3] {
    let mut tasks = Vec::new();
    for hook in ["hold", "fail", "retry"] {
        let answer = world.push(hook, hook, "{}").await;
        let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
        world.task_until(&task, "running").await;
        tasks.push(task);
    }
    world.effects_until(3).await;
    tasks.try_into().expect("three")
}

/// What must have become of the three, whatever happened to the journal.
async fn each_follows_its_word(world: &World, [hold, fail, retry]: &[String; 3]) {
    let one = world.task_until(hold, "lost").await;
    assert_eq!((&one["attempt"], &one["waiting"]["reason"]), (&1.into(), &"held".into()), "{one:#}");
    let other = world.task_until(fail, "lost").await;
    assert_eq!((&other["attempt"], other.get("waiting")), (&1.into(), None), "{other:#}");
    assert_eq!(world.task_until(retry, "running").await["attempt"], 2);
    world.effects_until(4).await;

    let (_, listed, _) = world.cli(&["task", "list", "--held"]).await;
    assert!(listed.contains(hold.as_str()) && listed.contains("lost (held)"), "{listed}");
    assert!(!listed.contains(fail.as_str()), "{listed}");
    let (_, shown, _) = world.cli(&["task", "show", hold]).await;
    let advice = format!("`hetuflow task retry {hold}` runs it again");
    assert!(shown.contains("its fate is unknown") && shown.contains(&advice), "{shown}");

    // Only who asks for it gets it.
    let (code, said, _) = world.cli(&["task", "retry", "--all", "--yes"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "No task is like that.\n"));
    fs::write(world.dir.path().join("go"), "").expect("written");
    world.task_until(retry, "succeeded").await;
    let (code, _, said) = world.cli(&["task", "retry", "--all", "--held", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.task_until(hold, "succeeded").await["attempt"], 2);
    let mut effects = world.effects();
    effects.sort_unstable();
    let mut expected = vec![format!("{hold} 1"), format!("{hold} 2"), format!("{fail} 1")];
    expected.extend([format!("{retry} 1"), format!("{retry} 2")]);
    expected.sort_unstable();
    assert_eq!(effects, expected);
}

async fn a_wiped_journal_loses_what_ran_and_each_job_says_what_follows(database: Database) {
    let mut split = three_jobs(database).await;
    split.agent("worker", &[]).await;
    let tasks = run_all(&split.world).await;
    split.kill_agent("worker").await;
    fs::remove_dir_all(split.agent_data("worker")).expect("removed");
    split.agent("worker", &[]).await;
    each_follows_its_word(&split.world, &tasks).await;
}

async fn a_journal_rolled_back_loses_what_ran_and_each_job_says_what_follows(database: Database) {
    let mut split = three_jobs(database).await;
    let data = split.agent_data("worker");
    let copy = split.world.dir.path().join("copy");
    split.agent("worker", &[]).await;
    split.kill_agent("worker").await;
    copy_folder(&data, &copy);
    split.agent("worker", &[]).await;
    let tasks = run_all(&split.world).await;
    split.kill_agent("worker").await;
    fs::remove_dir_all(&data).expect("removed");
    copy_folder(&copy, &data);
    split.agent("worker", &[]).await;
    each_follows_its_word(&split.world, &tasks).await;
}

async fn a_result_that_comes_after_the_loss_is_refused_and_dropped(database: Database) {
    let settings = [("AGENTS__HEARTBEAT", "1s"), ("AGENTS__LEASE", "3s"), ("AGENTS__RESUME", "1s")];
    let mut split = Split::with(database, &[("hold", &on_push(WAITS, ""))], &settings).await;
    split.agent("worker", &[]).await;
    let answer = split.world.push("hold", "1", "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    split.world.task_until(&task, "running").await;

    split.link.cut();
    split.world.task_until(&task, "lost").await;
    // It ends well, and its agent keeps the result for a server that does not want it any more.
    fs::write(split.world.dir.path().join("go"), "").expect("written");
    split.agent_says("worker", "the attempt ended").await;
    split.mend_link();
    split.agent_says("worker", "dropped the result of an attempt").await;
    let held = split.world.get(&format!("tasks/{task}")).await;
    assert_eq!((&held["status"], &held["waiting"]["reason"]), (&"lost".into(), &"held".into()), "{held:#}");

    // It has dropped it: it neither keeps its slot for it nor says it again in its next life.
    let second = succeeds(&split.world, "2").await;
    let refused = fenced(&split.world).await;
    assert!(refused >= 1, "the refusal is counted");
    // Stopped and not killed: what was acknowledged a moment before a kill is said once more, and dropped again.
    split.stop_agent("worker").await;
    split.agent("worker", &[]).await;
    let third = succeeds(&split.world, "3").await;
    assert_eq!(fenced(&split.world).await, refused);
    let effects = [&task, &second, &third].map(|task| format!("{task} 1"));
    assert_eq!(split.world.effects(), effects);
}

async fn succeeds(world: &World, delivery: &str) -> String {
    let answer = world.push("hold", delivery, "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    world.task_until(&task, "succeeded").await;
    task
}

/// On SQLite, where a copy is a file; the rule is the server's and the agent's, not the database's.
#[tokio::test]
async fn a_database_restored_from_a_copy_repeats_nothing_unasked() {
    let job = on_push("echo $HETUFLOW_TASK_ID >> $DIR/effects", "");
    let mut split = Box::pin(Split::start(Database::Sqlite, &[("deploy", &job)])).await;
    let answer = split.world.push("deploy", "1", "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    assert_eq!(split.world.server.stop().await, Some(0));
    let (dir, copy) = (split.world.dir.path().to_owned(), split.world.dir.path().join("copy"));
    fs::create_dir(&copy).expect("made");
    copy_database(&dir, &copy);

    split.restart_server().await;
    split.agent("worker", &[]).await;
    split.world.task_until(&task, "succeeded").await;
    assert_eq!(split.world.server.stop().await, Some(0));
    copy_database(&copy, &dir);
    split.restart_server().await;
    let lost = split.world.task_until(&task, "lost").await;
    assert_eq!(lost["waiting"]["reason"], "held", "{lost:#}");
    assert_eq!(split.world.effects(), [task.as_str()]);
}

/// The database as it is without its server, in the place of what was there.
fn copy_database(from: &Path, to: &Path) {
    for name in ["hetuflow.db", "hetuflow.db-wal", "hetuflow.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

async fn fenced(world: &World) -> u64 {
    let url = format!("http://{}/api/v1/system/metrics", world.places.api);
    let text = world.http.get(url).send().await.expect("an answer").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("hetuflow_reports_fenced_total "));
    line.expect("the metric").parse().expect("a number")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(from, to).expect("copied");
        }
    }
}
