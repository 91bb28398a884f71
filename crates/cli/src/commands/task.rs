//! `hetuflow task ..`

mod bulk;
mod filter;

use hetuflow_core::{
    task::{EndReason, Outcome, Task, TaskInstance},
    waiting::Waiting,
};
use hetuflow_store::DaemonNow;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{event::more, logs, query, schedule::daemon, typed};
use crate::{
    args::{ManyArgs, TaskListArgs, TaskVerb},
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, pairs, plain, time},
};

use bulk::Verb;

const NONE_YET: &str = "No task yet. `hetuflow event list` shows what happened and what matched.";

/// `GET tasks/{id}`
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub task: Task,
    /// Newest first.
    #[serde(default)]
    pub instances: Vec<TaskInstance>,
    pub waiting: Option<Waiting>,
    daemon: Option<Daemon>,
}

/// How the daemon is whose run it is.
#[derive(Debug, Deserialize)]
struct Daemon {
    #[serde(flatten)]
    now: DaemonNow,
    next_run_at: Option<Timestamp>,
}

/// One of `GET tasks`
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(flatten)]
    task: Task,
    waiting: Option<Waiting>,
}

pub(crate) async fn run(verb: TaskVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        TaskVerb::List(args) => list(args, client, output).await,
        TaskVerb::Show { id } => show(&id, client, output).await,
        TaskVerb::Logs { id, follow: false } => logs::print(&id, client, output).await,
        TaskVerb::Logs { id, follow: true } => logs::follow(&id, client, output).await,
        TaskVerb::Cancel(args) => decide(Verb::Cancel, args, client, output).await,
        TaskVerb::Retry(args) => decide(Verb::Retry, args, client, output).await,
    }
}

async fn decide(verb: Verb, args: ManyArgs, client: &Client, output: Output) -> Result<(), CliError> {
    match &args.id {
        Some(_) if !args.filter.is_empty() => {
            Err(CliError::Usage("a filter goes with --all, not with an id".to_owned()))
        }
        Some(id) => client.act(Method::POST, &format!("tasks/{id}/{}", verb.name())).await,
        None => bulk::run(verb, args, client, output).await,
    }
}

async fn list(args: TaskListArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let filtered = !args.filter.is_empty();
    let mut parameters = filter::query(&args.filter);
    parameters.extend(query(&[("limit", Some(args.page.limit.to_string())), ("cursor", args.page.cursor)]));
    let answer: Value = client.get("tasks", &parameters).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<Listed> = typed(&answer)?;
    let rows = list
        .items
        .iter()
        .map(|Listed { task, waiting }| {
            vec![
                task.id.to_string(),
                plain(&task.trigger),
                status(output, task),
                task.attempt.to_string(),
                time(task.created_at),
                remark(task, waiting.as_ref()),
            ]
        })
        .collect();
    let heads = ["TASK", "TRIGGER", "STATUS", "ATTEMPT", "CREATED", "ENDED OR WAITS"];
    output.table(&heads, rows, if filtered { "No task is like that." } else { NONE_YET })?;
    more(output, list.next_cursor.as_deref())
}

async fn show(id: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("tasks/{id}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let Shown { task, instances, waiting, daemon: kept } = typed(&answer)?;
    let command = task.command.as_ref().map(|command| {
        std::iter::once(&command.cmd)
            .chain(&command.args)
            .map(|part| plain(part))
            .collect::<Vec<_>>()
            .join(" ")
    });
    output.fields(&[
        ("task", task.id.to_string()),
        ("trigger", plain(&task.trigger)),
        ("event", task.event_id.to_string()),
        ("status", status(output, &task)),
        ("waits", waiting.as_ref().map(|waiting| plain(&waiting.text)).unwrap_or_default()),
        ("freed by", waiting.as_ref().map(|waiting| plain(&waiting.remedy)).unwrap_or_default()),
        ("ended", task.outcome.as_ref().map(ended).unwrap_or_default()),
        ("outputs", task.outcome.as_ref().map(outputs).unwrap_or_default()),
        ("daemon", kept.map(|kept| daemon(&kept.now, kept.next_run_at)).unwrap_or_default()),
        ("due", time(task.run_at)),
        ("asks for", plain(&pairs(&task.lane.selector.0))),
        ("only on", task.lane.agent.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("runs", command.unwrap_or_default()),
    ])?;
    for instance in instances.iter().rev() {
        output.line(&attempt(output, instance))?;
    }
    output.line(&output.tone(&format!("hetuflow task logs {id} prints its output."), Tone::Faint))
}

/// The status; of what is lost also whether it waits for a person.
fn status(output: Output, task: &Task) -> String {
    let word = output.status(task.status);
    if task.is_held() { format!("{word} (held)") } else { word }
}

fn attempt(output: Output, instance: &TaskInstance) -> String {
    format!(
        "attempt {}  {}  on {}  {}  {}",
        instance.attempt,
        output.status(instance.status),
        instance.agent_id,
        instance.started_at.map(time).unwrap_or_default(),
        instance.outcome.as_ref().map(ended).unwrap_or_default(),
    )
}

/// `rows=12 file=/a`
fn outputs(outcome: &Outcome) -> String {
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown: Vec<String> =
        outcome.outputs.iter().map(|(name, one)| plain(&format!("{name}={}", value(one)))).collect();
    shown.join(" ")
}

/// Why it waits, or else how it ended.
fn remark(task: &Task, waiting: Option<&Waiting>) -> String {
    match (waiting, &task.outcome) {
        (Some(waiting), _) if !task.status.is_final() => plain(&waiting.text),
        (_, Some(outcome)) => ended(outcome),
        (_, None) => String::new(),
    }
}

/// An outcome in a few words: `exit 3`, `signal 9`, `timeout: killed after 5m`.
pub(super) fn ended(outcome: &Outcome) -> String {
    let word = match outcome.reason {
        EndReason::Exit => format!("exit {}", outcome.exit_code.unwrap_or_default()),
        EndReason::Signal => format!("signal {}", outcome.signal.unwrap_or_default()),
        EndReason::Timeout => "timeout".to_owned(),
        EndReason::Lost => "lost".to_owned(),
        EndReason::Cancelled => "cancelled".to_owned(),
        EndReason::Render => "template".to_owned(),
        EndReason::Spawn => "not started".to_owned(),
    };
    match &outcome.message {
        Some(message) => format!("{word}: {}", plain(message)),
        None => word,
    }
}
