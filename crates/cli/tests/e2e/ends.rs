//! Ends of jobs that start other jobs, with the values that a job leaves for those after it.

use crate::{
    on_both,
    split::Split,
    world::{Database, World, on_push},
};

on_both! {
    a_job_hands_values_to_the_one_after_it,
    a_failure_that_is_final_starts_the_alarm,
    an_end_while_the_server_is_down_starts_the_next_once,
}

/// `more` is the job's `environment`.
fn on_end_of_deploy(kind: &str, script: &str, more: &str) -> String {
    format!(
        "[on.event]\ntype = \"{kind}\"\nwhen = 'event.subject == \"deploy\"'\n\n\
         [job]\ncmd = \"sh\"\nargs = [\"-c\", '''{script}''']\nenvironment = {{ {more} }}\n"
    )
}

async fn a_job_hands_values_to_the_one_after_it(database: Database) {
    let first = on_push("echo rows=12 >> $HETUFLOW_OUTPUT; echo \"name=a b\" >> $HETUFLOW_OUTPUT", "");
    let then = on_end_of_deploy(
        "job.succeeded",
        "echo \"$ROWS $NAME\" >> $DIR/effects",
        "ROWS = \"{{ body.outputs.rows }}\", NAME = \"{{ body.outputs.name }}\"",
    );
    let world = World::dev(database, &[("deploy", &first), ("then", &then)]).await;
    let answer = world.push("deploy", "delivery-1", "{}").await;
    assert_eq!(world.effects_until(1).await, ["12 a b"]);
    let task = world.get(&format!("tasks/{}", answer.body["task_ids"][0].as_str().expect("a task"))).await;
    assert_eq!(task["outcome"]["outputs"]["rows"], "12", "{task:#}");
    let events = world.get("events?type=job.succeeded").await;
    let subjects = events["items"].as_array().expect("events").iter().map(|event| &event["subject"]);
    assert_eq!(subjects.filter(|subject| **subject == "deploy").count(), 1, "{events:#}");
}

async fn a_failure_that_is_final_starts_the_alarm(database: Database) {
    let first = on_push("echo try >> $DIR/effects; exit 3", "max_retries = 1\nretry_interval = 0");
    let alarm = on_end_of_deploy(
        "job.failed",
        "echo \"$STATUS $CODE after $TRIES\" >> $DIR/effects",
        "STATUS = \"{{ body.status }}\", CODE = \"{{ body.exit_code }}\", TRIES = \"{{ body.attempts }}\"",
    );
    let world = World::dev(database, &[("deploy", &first), ("alarm", &alarm)]).await;
    world.push("deploy", "delivery-1", "{}").await;
    assert_eq!(world.effects_until(3).await, ["try", "try", "failed 3 after 2"]);
}

async fn an_end_while_the_server_is_down_starts_the_next_once(database: Database) {
    let waits = "echo begun >> $DIR/effects; while [ ! -e $DIR/go ]; do sleep 0.05; done; \
                 echo done >> $DIR/effects";
    let then = on_end_of_deploy("job.succeeded", "echo then >> $DIR/effects", "");
    let mut split = Split::start(database, &[("deploy", &on_push(waits, "")), ("then", &then)]).await;
    split.agent("worker", &[]).await;
    split.world.push("deploy", "delivery-1", "{}").await;
    split.world.effects_until(1).await;
    split.world.server.kill().await;
    std::fs::write(split.world.dir.path().join("go"), "").expect("written");
    split.world.effects_until(2).await;
    split.restart_server().await;
    assert_eq!(split.world.effects_until(3).await, ["begun", "done", "then"]);

    split.world.server.kill().await;
    split.restart_server().await;
    let again = split.world.push("deploy", "delivery-2", "{}").await;
    assert_eq!(again.status, 202);
    assert_eq!(split.world.effects_until(6).await[3..], ["begun", "done", "then"]);
}
