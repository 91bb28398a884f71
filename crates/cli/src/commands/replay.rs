//! `hetuflow event replay`: one event, or all that a filter lets through, at a pace that the jobs can bear.

use std::time::Duration;

use hetuflow_core::id::EventId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    event::filters,
    progress::{Progress, confirm, say},
};
use crate::{
    args::{EventFilterArgs, ReplayArgs},
    client::Client,
    error::CliError,
    output::{Output, plain},
};

/// Events of one request, at most.
const STRETCH: u64 = 50;
/// Refusals that are printed.
const SHOWN: usize = 10;

#[derive(Debug, Deserialize)]
struct Counted {
    count: u64,
    as_of: Timestamp,
    next_cursor: Option<String>,
}

/// What the server did in one stretch, or in all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Done {
    replayed: u64,
    /// Before, under the same key.
    known: u64,
    tasks: u64,
    refused: Vec<Refusal>,
    #[serde(skip_serializing)]
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    event_id: EventId,
    reason: String,
}

impl Done {
    const fn seen(&self) -> u64 {
        self.replayed + self.known + self.refused.len() as u64
    }

    fn add(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.known += other.known;
        self.tasks += other.tasks;
        self.refused.extend(other.refused);
    }

    fn words(&self) -> String {
        let known = if self.known > 0 { format!(", {} were before", self.known) } else { String::new() };
        let refused = self.refused.len();
        let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
        format!("{} replayed{known}{refused}; they started {} tasks", self.replayed, self.tasks)
    }
}

pub(super) async fn run(args: ReplayArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let key = args.key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    match args.id {
        Some(id) => one(id, &args, &key, client, output).await,
        None => many(args, &key, client, output).await,
    }
}

/// `POST events/{id}/replay`
#[derive(Debug, Deserialize)]
struct Replayed {
    event_id: EventId,
    task_ids: Vec<String>,
    duplicate: bool,
}

async fn one(
    id: EventId,
    args: &ReplayArgs,
    key: &str,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    if !filters(&args.filter).is_empty() {
        return Err(CliError::Usage("filters go with --all; one event is named by its id".to_owned()));
    }
    let body = json!({ "definition": args.definition.name() });
    let answer: Value = client.post_once(&format!("events/{id}/replay"), key, &body).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let Replayed { event_id, task_ids, duplicate } = super::typed(&answer)?;
    let word = if duplicate { "was replayed before as" } else { "replayed as" };
    output.line(&format!("{id} {word} {event_id}"))?;
    started(event_id, &task_ids, output)
}

/// What an event started that was made on purpose.
pub(super) fn started(event_id: EventId, task_ids: &[String], output: Output) -> Result<(), CliError> {
    for task in task_ids {
        output.line(&format!("task  {task}"))?;
    }
    if task_ids.is_empty() {
        output.line(&format!("It started nothing: `hetuflow event show {event_id}` says why."))?;
    }
    Ok(())
}

async fn many(args: ReplayArgs, key: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let mut filter = args.filter.clone();
    if filters(&filter).iter().all(|(name, _)| *name == "until") {
        return Err(CliError::Usage(
            "say which events are meant, such as --trigger NAME or --since 2h".to_owned(),
        ));
    }
    let words: Vec<String> = filters(&filter).iter().map(|(name, value)| format!("{name} {value}")).collect();
    let counted = count(&filter, client).await?;
    // What comes later was not counted, and nobody said yes to it.
    filter.until = Some(filter.until.map_or(counted.as_of, |until| until.min(counted.as_of)));
    let total = args.limit.map_or(counted.count, |limit| limit.min(counted.count));
    if total == 0 {
        return summary(counted.count, &Done::default(), key, output);
    }
    if !args.yes {
        let events = if total == 1 { "1 event".to_owned() } else { format!("{total} events") };
        let definition = args.definition.name();
        confirm(&format!("replay {events} by the {definition} definition ({})", plain(&words.join(", "))))?;
    }
    let done = walk(total, &filter, &args, key, client).await?;
    summary(counted.count, &done, key, output)
}

async fn count(filter: &EventFilterArgs, client: &Client) -> Result<Counted, CliError> {
    let mut query = filters(filter);
    let mut all: Counted = client.get("events/count", &query).await?;
    while let Some(cursor) = all.next_cursor.take() {
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", cursor));
        let more: Counted = client.get("events/count", &query).await?;
        all.count += more.count;
        all.next_cursor = more.next_cursor;
    }
    Ok(all)
}

async fn walk(
    total: u64,
    filter: &EventFilterArgs,
    args: &ReplayArgs,
    key: &str,
    client: &Client,
) -> Result<Done, CliError> {
    let progress = Progress::new(total, "events");
    let filter: Map<String, Value> =
        filters(filter).into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let (mut all, mut after, begun) = (Done::default(), None, Instant::now());
    while all.seen() < total {
        let limit = STRETCH.min(u64::from(args.rate)).min(total - all.seen());
        let definition = args.definition.name();
        let body = json!({ "filter": filter, "definition": definition, "limit": limit, "after": after });
        let mut done: Done = client.post_once("events/replay", key, &body).await.inspect_err(|_| {
            progress.stopped(&format!("stopped: {}. The same command with --key {key} goes on", all.words()));
        })?;
        after = done.next.take();
        all.add(done);
        progress.at(all.seen());
        if after.is_none() {
            break;
        }
        // Those that were there before cost nothing.
        let due = Duration::from_millis(all.replayed.saturating_mul(1000) / u64::from(args.rate));
        sleep_until(begun + due).await;
    }
    progress.finish();
    Ok(all)
}

fn summary(matched: u64, done: &Done, key: &str, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(&json!({ "matched": matched, "key": key, "done": done }));
    }
    if matched == 0 {
        return output.line("No event is like that.");
    }
    output.line(&done.words())?;
    for Refusal { event_id, reason } in done.refused.iter().take(SHOWN) {
        output.line(&format!("{event_id}  {}", plain(reason)))?;
    }
    say(&format!("key {key}: with --key, what was replayed is not replayed again"));
    Ok(())
}
