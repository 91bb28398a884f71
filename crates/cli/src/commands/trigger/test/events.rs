//! Events that were received, with their bodies, from the server.

use futures_util::{StreamExt, TryStreamExt, stream};
use hetuflow_core::{
    event::{Event, Verdict},
    id::EventId,
    trigger::Trigger,
};

use crate::{
    client::{Client, List},
    error::CliError,
};

/// Bodies that are fetched at once.
const AT_ONCE: usize = 8;

pub(super) async fn one(id: EventId, client: &Client) -> Result<Event, CliError> {
    let event: Event = client.get(&format!("events/{id}"), &[]).await?;
    with_body(event, client).await
}

/// The newest events that the trigger would be asked about, the newest first.
pub(super) async fn last(trigger: &Trigger, count: u32, client: &Client) -> Result<Vec<Event>, CliError> {
    let mut events: Vec<Event> = Vec::new();
    for mut query in queries(trigger) {
        query.push(("namespace", trigger.namespace.to_string()));
        let (mut found, mut cursor) = (0, None);
        loop {
            let mut page = query.clone();
            page.push(("limit", (count - found).to_string()));
            page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let list: List<Event> = client.get("events", &page).await?;
            // What was refused is asked nothing.
            let read =
                list.items.into_iter().filter(|event| !matches!(event.verdict, Verdict::Rejected { .. }));
            let before = events.len();
            events.extend(read);
            found += u32::try_from(events.len() - before).unwrap_or(count);
            cursor = list.next_cursor;
            if cursor.is_none() || found >= count {
                break;
            }
        }
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.id));
    events.dedup_by_key(|event| event.id);
    events.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    stream::iter(events).map(|event| with_body(event, client)).buffered(AT_ONCE).try_collect().await
}

/// The filters that find what each of its sources may take.
fn queries(trigger: &Trigger) -> Vec<Vec<(&'static str, String)>> {
    let mut queries: Vec<Vec<(&'static str, String)>> = Vec::new();
    for hook in &trigger.webhooks {
        queries.push(vec![("kind", "webhook".to_owned()), ("source", trigger.source_of(hook))]);
    }
    for source in &trigger.events {
        queries.push(vec![("type", source.event_type.clone())]);
    }
    if !trigger.files.is_empty() {
        queries.push(vec![("kind", "file".to_owned()), ("source", trigger.key())]);
    }
    if !(trigger.clocks.is_empty() && trigger.daemons.is_empty()) {
        queries.push(vec![("kind", "schedule".to_owned()), ("trigger", trigger.name.to_string())]);
    }
    queries
}

async fn with_body(mut event: Event, client: &Client) -> Result<Event, CliError> {
    let response = client.open(&format!("events/{}/body", event.id), "*/*", None).await?;
    event.body = response.bytes().await.map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(event)
}
