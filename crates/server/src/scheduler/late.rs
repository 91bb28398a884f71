//! What becomes of deadlines that were missed: files that come later are an event `file.late`, and what was unknown is
//! missing once every agent has told of everything up to the deadline. Each is told once, by its dedupe key, whichever server
//! finds it; until the next deadline of the schedule.

use std::{collections::BTreeMap, sync::Arc};

use hetuflow_core::event::{DedupeKey, Event, SourceKind};
use hetuflow_store::{EventFilter, Ingest, Page, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    deadline::{self, Due},
    fire,
};
use crate::{
    AppState,
    triggers::{Clocked, Live, TriggerSet},
};

/// Missed deadlines are followed for so long, at most.
const FOLLOWED: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long it is remembered what was told of a deadline.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Events that are looked at, at most, of each type.
const MOST: u32 = 500;

/// Looks at every deadline that was missed and is not settled.
pub(crate) async fn look(state: &AppState) -> Result<(), StoreError> {
    let set = state.triggers.current();
    let now = state.clock.now();
    let deadlines = deadlines(&set);
    if deadlines.is_empty() {
        return Ok(());
    }
    let late: Vec<_> = told(state, "file.late", now).await?.into_iter().map(of).collect();
    let mut missed: BTreeMap<(String, Timestamp), Vec<Event>> = BTreeMap::new();
    for event in told(state, "file.missing", now).await? {
        missed.entry((event.source.clone(), event.time)).or_default().push(event);
    }
    for (about, events) in missed {
        let Some((live, clocked)) = deadlines.get(&about.0).filter(|_| !late.contains(&about)) else {
            continue;
        };
        let Some(deadline) = &clocked.schedule.deadline else { continue };
        let due = Due { live, clocked, deadline, by: about.1 };
        if clocked.next_after(due.by).is_none_or(|next| now < next) {
            follow(state, &set, due, &events, now).await?;
        }
    }
    Ok(())
}

/// By the source of their events.
fn deadlines(set: &TriggerSet) -> BTreeMap<String, (&Live, &Clocked)> {
    let clocks = set.live.values().flat_map(|live| live.clocks.iter().map(move |clocked| (live, clocked)));
    clocks
        .filter(|(_, clocked)| clocked.schedule.deadline.is_some())
        .map(|(live, clocked)| (fire::source(live, &clocked.schedule.name), (live, clocked)))
        .collect()
}

fn of(event: Event) -> (String, Timestamp) {
    (event.source, event.time)
}

async fn told(state: &AppState, event_type: &str, now: Timestamp) -> Result<Vec<Event>, StoreError> {
    let filter = EventFilter {
        kind: Some(SourceKind::Internal),
        event_type: Some(event_type.to_owned()),
        since: now.checked_sub(FOLLOWED).ok(),
        ..EventFilter::default()
    };
    let events = state.store.events(&filter, Page { before: None, limit: MOST }).await?;
    Ok(events.into_iter().filter(|event| event.replay_of.is_none()).collect())
}

async fn follow(
    state: &AppState,
    set: &Arc<TriggerSet>,
    due: Due<'_>,
    told: &[Event],
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = deadline::count(state, due).await?;
    let expected = due.deadline.count;
    let watching = deadline::watching(state, due.live).await?;
    let (kind, status) = if found.in_time >= expected {
        // Seen in time, and told when the agent was back.
        ("file.late", "in_time")
    } else if found.all >= expected {
        ("file.late", "late")
    } else if deadline::is_certain(&watching, due.by) && is_unknown(state, told).await? {
        ("file.missing", "missing")
    } else {
        return Ok(());
    };
    let event = deadline::event(due, kind, status, found.all, &watching, now);
    let expires_at = now.saturating_add(REMEMBERED).unwrap_or(Timestamp::MAX);
    let key = DedupeKey::new(event.source.clone(), format!("{kind} {}", due.by), expires_at);
    let ingest = deadline::judged(state, set, event).await;
    let ingest = Ingest { dedupe: Some(key), ..ingest };
    state.store.ingest(&[ingest], &[]).await?;
    Ok(())
}

/// Whether all that was told of it is that nobody knows.
async fn is_unknown(state: &AppState, told: &[Event]) -> Result<bool, StoreError> {
    for event in told {
        let whole = state.store.event(event.id).await?;
        let body: Value = serde_json::from_slice(&whole.body).unwrap_or_default();
        if body["state"] != "unknown" {
            return Ok(false);
        }
    }
    Ok(true)
}
