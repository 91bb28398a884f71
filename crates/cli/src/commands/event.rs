//! `hetuflow event ..`

use hetuflow_core::{
    event::{Decision, DecisionOutcome, Event, Verdict},
    id::EventId,
    task::Task,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{decision, query, replay, send, typed};
use crate::{
    args::{EventFilterArgs, EventListArgs, EventVerb, PageArgs},
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, plain, time},
};

/// Requests of one search.
const MAX_REQUESTS: u32 = 20;

const NOTHING_YET: &str =
    "Nothing has happened yet. `hetuflow trigger list` shows what would start something.";

/// `GET events/{id}`
#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(flatten)]
    event: Event,
    #[serde(default)]
    tasks: Vec<Task>,
    #[serde(default)]
    replays: Vec<EventId>,
    #[serde(default)]
    body_size: u64,
}

/// Characters of one header.
const HEADER: usize = 200;

pub(crate) async fn run(verb: EventVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        EventVerb::List(args) => list(args, client, output).await,
        EventVerb::Show { id, body: true } => {
            let response = client.open(&format!("events/{id}/body"), "*/*", None).await?;
            output.bytes(&response.bytes().await.map_err(|error| CliError::Failed(error.to_string()))?)
        }
        EventVerb::Show { id, body: false } => show(id, client, output).await,
        EventVerb::Replay(args) => replay::run(args, client, output).await,
        EventVerb::Send(args) => send::run(args, client, output).await,
    }
}

async fn list(args: EventListArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut parameters = filters(&args.filter);
    let filtered = !parameters.is_empty();
    let answer = search(&mut parameters, &args.page, client).await?;
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
    let empty = match (filtered, &list.next_cursor) {
        (true, None) => "No event is like that.",
        (true, Some(_)) => "No event is like that so far.",
        (false, _) => NOTHING_YET,
    };
    output.table(&heads, rows, empty)?;
    more(output, list.next_cursor.as_deref())
}

/// The filter as the API takes it.
pub(super) fn filters(filter: &EventFilterArgs) -> Vec<(&'static str, String)> {
    query(&[
        ("trigger", filter.trigger.clone()),
        ("decision", filter.decision.map(|decision| decision.name().to_owned())),
        ("kind", filter.kind.clone()),
        ("source", filter.source.clone()),
        ("type", filter.event_type.clone()),
        ("verdict", filter.verdict.clone()),
        ("replay_of", filter.replay_of.map(|id| id.to_string())),
        ("since", filter.since.map(|time| time.to_string())),
        ("until", filter.until.map(|time| time.to_string())),
        ("header", filter.header.clone()),
        ("json", filter.json.clone()),
        ("when", filter.when.clone()),
        ("secret", filter.secret.clone()),
        ("sender", filter.sender.map(|sender| sender.to_string())),
    ])
}

/// A request looks at a part of the journal: here are as many as it takes for a page, within reason.
async fn search(
    parameters: &mut Vec<(&'static str, String)>,
    page: &PageArgs,
    client: &Client,
) -> Result<Value, CliError> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let (mut items, mut cursor) = (Vec::new(), page.cursor.clone());
    for _ in 0..MAX_REQUESTS {
        parameters.retain(|(name, _)| !["limit", "cursor"].contains(name));
        parameters.push(("limit", (limit - items.len()).to_string()));
        parameters.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let found: List<Value> = client.get("events", parameters).await?;
        items.extend(found.items);
        cursor = found.next_cursor;
        if cursor.is_none() || items.len() >= limit {
            break;
        }
    }
    Ok(json!({ "items": items, "next_cursor": cursor }))
}

async fn show(id: EventId, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("events/{id}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let Shown { event, tasks, replays, body_size } = typed(&answer)?;
    output.fields(&[
        ("event", event.id.to_string()),
        ("source", plain(&event.source)),
        ("type", plain(&event.event_type)),
        ("subject", plain(event.subject.as_deref().unwrap_or_default())),
        ("received", time(event.received_at)),
        ("verdict", verdict(output, &event.verdict)),
        ("reason", plain(event.verdict.reason().unwrap_or_default())),
        ("sender", event.sender.map(|sender| sender.to_string()).unwrap_or_default()),
        ("signed with", plain(event.secret.as_deref().unwrap_or_default())),
        ("query", plain(event.query.as_deref().unwrap_or_default())),
        ("body", body(body_size, event.content_type.as_deref())),
        ("replay of", event.replay_of.map(|id| id.to_string()).unwrap_or_default()),
    ])?;
    for (name, value) in &event.headers {
        let value: String = plain(value).chars().take(HEADER).collect();
        output.line(&output.tone(&format!("{}: {value}", plain(name)), Tone::Faint))?;
    }
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
    for replay in &replays {
        output.line(&format!("replayed as  {replay}"))?;
    }
    if tasks.is_empty() && event.verdict == Verdict::Accepted {
        output.line("It started nothing.")?;
    }
    output.line(
        &output.tone(&format!("hetuflow event show {id} --body prints what was received."), Tone::Faint),
    )
}

fn body(size: u64, content_type: Option<&str>) -> String {
    let of = content_type.map(|kind| format!(" of {}", plain(kind))).unwrap_or_default();
    if size == 0 { "empty".to_owned() } else { format!("{size} bytes{of}") }
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
        Verdict::Accepted | Verdict::Ping { .. } => Tone::Good,
        Verdict::Malformed { .. } | Verdict::Rejected { .. } | Verdict::Unverified { .. } => Tone::Bad,
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
