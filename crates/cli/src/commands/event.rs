//! `hetuflow event ..`

use hetuflow_core::{
    event::{Decision, DecisionOutcome, Event, Verdict},
    id::EventId,
    task::Task,
};
use serde::Deserialize;
use serde_json::Value;

use super::{decision, query, send, typed};
use crate::{
    args::{EventListArgs, EventVerb},
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, plain, time},
};

const NOTHING_YET: &str =
    "Nothing has happened yet. `hetuflow trigger list` shows what would start something.";

/// `GET events/{id}`
#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(flatten)]
    event: Event,
    #[serde(default)]
    tasks: Vec<Task>,
}

pub(crate) async fn run(verb: EventVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        EventVerb::List(args) => list(args, client, output).await,
        EventVerb::Show { id, body: true } => {
            let response = client.open(&format!("events/{id}/body"), "*/*", None).await?;
            output.bytes(&response.bytes().await.map_err(|error| CliError::Failed(error.to_string()))?)
        }
        EventVerb::Show { id, body: false } => show(id, client, output).await,
        EventVerb::Send(args) => send::run(args, client, output).await,
    }
}

async fn list(args: EventListArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let filtered = args.kind.is_some() || args.event_type.is_some() || args.verdict.is_some();
    let parameters = query(&[
        ("kind", args.kind),
        ("type", args.event_type),
        ("verdict", args.verdict),
        ("limit", Some(args.page.limit.to_string())),
        ("cursor", args.page.cursor),
    ]);
    let answer: Value = client.get("events", &parameters).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<Event> = typed(&answer)?;
    let rows = list
        .items
        .iter()
        .map(|event| {
            vec![
                event.id.to_string(),
                time(event.received_at),
                plain(&event.source),
                plain(&event.event_type),
                verdict(output, &event.verdict),
                matched(&event.decisions),
            ]
        })
        .collect();
    let heads = ["EVENT", "RECEIVED", "SOURCE", "TYPE", "VERDICT", "MATCHED"];
    output.table(&heads, rows, if filtered { "No event is like that." } else { NOTHING_YET })?;
    more(output, list.next_cursor.as_deref())
}

async fn show(id: EventId, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("events/{id}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let Shown { event, tasks } = typed(&answer)?;
    output.fields(&[
        ("event", event.id.to_string()),
        ("source", plain(&event.source)),
        ("type", plain(&event.event_type)),
        ("subject", plain(event.subject.as_deref().unwrap_or_default())),
        ("received", time(event.received_at)),
        ("verdict", verdict(output, &event.verdict)),
        ("reason", plain(event.verdict.reason().unwrap_or_default())),
        ("signed with", plain(event.secret.as_deref().unwrap_or_default())),
        ("replay of", event.replay_of.map(|id| id.to_string()).unwrap_or_default()),
    ])?;
    for decision in &event.decisions {
        decision::print(output, decision)?;
    }
    for task in &tasks {
        output.line(&format!(
            "task  {}  {}  {}",
            task.id,
            output.status(task.status),
            plain(&task.trigger)
        ))?;
    }
    if tasks.is_empty() && event.verdict == Verdict::Accepted {
        output.line("It started nothing.")?;
    }
    output.line(
        &output.tone(&format!("hetuflow event show {id} --body prints what was received."), Tone::Faint),
    )
}

fn matched(decisions: &[Decision]) -> String {
    let names: Vec<String> = decisions
        .iter()
        .filter(|decision| decision.outcome == DecisionOutcome::Matched)
        .map(|decision| plain(&decision.trigger))
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

fn verdict(output: Output, verdict: &Verdict) -> String {
    let tone = match verdict {
        Verdict::Accepted => Tone::Good,
        Verdict::Malformed { .. } | Verdict::Rejected { .. } => Tone::Bad,
    };
    output.tone(verdict.name(), tone)
}

/// How to see the next page, when there is one.
pub(super) fn more(output: Output, next_cursor: Option<&str>) -> Result<(), CliError> {
    match next_cursor {
        Some(cursor) => output.line(&output.tone(&format!("older: --cursor {cursor}"), Tone::Faint)),
        None => Ok(()),
    }
}
