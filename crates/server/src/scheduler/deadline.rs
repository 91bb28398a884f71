//! Deadlines of files: at each, the files that came are counted. Too few are an event `file.missing` for other triggers,
//! which says whether the agents that should have seen them were watching: what nobody watched for is not missing but
//! unknown. A warning before it is `file.due`. One (schedule, time) pair is judged once, like any fire; what becomes of it
//! later is found by `late`.

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_core::{
    agent::{Agent, Connection},
    event::{Event, FileFacts, SourceKind},
    protocol::WatchHealth,
    schedule::Deadline,
};
use hetuflow_store::{EventFilter, Fire, Ingest, Page, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{
    fire,
    times::{Step, step},
};
use crate::{
    AppState,
    intake::Candidates,
    triggers::{Clocked, Live, TriggerSet},
};

/// Pages of [`PAGE`] events that are looked at for one deadline, at most: 50,000 events.
const MOST_PAGES: usize = 100;
const PAGE: u32 = 500;

/// Who should have seen the files.
#[derive(Debug, Serialize)]
pub(super) struct Watching {
    agent: String,
    /// `live`, `polling`, `degraded`, `offline`, `refused`; `away` without a connection.
    watch: &'static str,
    /// Up to when it has told of everything.
    told_until: Option<Timestamp>,
}

/// One deadline of a trigger, at one time.
#[derive(Clone, Copy)]
pub(super) struct Due<'a> {
    pub(super) live: &'a Live,
    pub(super) clocked: &'a Clocked,
    pub(super) deadline: &'a Deadline,
    pub(super) by: Timestamp,
}

/// Files of the trigger that were told in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) all: u32,
    /// Of these, those that were seen until the deadline was judged.
    pub(super) in_time: u32,
}

/// What is stored when the deadline has passed. `None`: it is too early, and the schedule stays due.
pub(super) async fn judge(
    state: &AppState,
    set: &Arc<TriggerSet>,
    (live, clocked, deadline): (&Live, &Clocked, &Deadline),
    run_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Fire>, StoreError> {
    let by = deadline.by(run_at);
    if now < deadline.looks_at(run_at) {
        return Ok(None);
    }
    // The grace is no lateness: the next deadline may well come before it is over.
    let late = now.duration_since(deadline.looks_at(run_at));
    let next = match step(clocked, run_at, run_at.saturating_add(late).unwrap_or(now)) {
        Step::Fire { next, .. } => next,
        Step::Pass { .. } => return Ok(Some(fire::fire(live, clocked, run_at, now))),
    };
    let due = Due { live, clocked, deadline, by };
    let ingest = if deadline.is_excepted(by) { None } else { look(state, set, due, now).await? };
    Ok(Some(Fire { id: clocked.id, run_at, next, ingest, turns: None }))
}

async fn look(
    state: &AppState,
    set: &Arc<TriggerSet>,
    due: Due<'_>,
    now: Timestamp,
) -> Result<Option<Ingest>, StoreError> {
    let found = count(state, due).await?.all;
    if found >= due.deadline.count {
        return Ok(None);
    }
    let watching = watching(state, due.live).await?;
    let (kind, status) = match due.deadline.ahead {
        Some(_) => ("file.due", "due"),
        None if is_certain(&watching, due.by) => ("file.missing", "missing"),
        None => ("file.missing", "unknown"),
    };
    let event = event(due, kind, status, found, &watching, now);
    Ok(Some(judged(state, set, event).await))
}

/// For the triggers that ask for it.
pub(super) async fn judged(state: &AppState, set: &Arc<TriggerSet>, event: Event) -> Ingest {
    let judged = state.judge.judge(event, Arc::clone(set), Candidates::Events).await;
    Ingest { event: judged.event, dedupe: None, tasks: judged.tasks }
}

pub(super) async fn count(state: &AppState, due: Due<'_>) -> Result<Count, StoreError> {
    let filter = EventFilter {
        namespace: Some(due.live.trigger.namespace.clone()),
        kind: Some(SourceKind::File),
        source: Some(format!("files/{}", due.live.trigger.key())),
        since: Some(due.deadline.since(due.by)),
        ..EventFilter::default()
    };
    let expected = due.deadline.expected(due.by);
    let (mut found, mut before) = (Count::default(), None);
    for _ in 0..MOST_PAGES {
        let events = state.store.events(&filter, Page { before, limit: PAGE }).await?;
        for event in events.iter().filter(|event| event.replay_of.is_none()) {
            let files = files(state, event, expected.as_deref()).await?;
            found.all += files;
            if event.time <= due.deadline.looks_at(due.by) {
                found.in_time += files;
            }
            if found.in_time >= due.deadline.count {
                return Ok(found);
            }
        }
        before = events.last().map(|event| event.id.uuid());
        if events.len() < PAGE as usize {
            return Ok(found);
        }
    }
    tracing::warn!(
        trigger = due.live.trigger.key(),
        "too many files in the window of a deadline: older ones are not counted"
    );
    Ok(found)
}

/// How many of those that are expected the event tells of.
async fn files(state: &AppState, event: &Event, expected: Option<&str>) -> Result<u32, StoreError> {
    let is_it = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        expected.is_none_or(|expected| expected == name)
    };
    Ok(match event.event_type.as_str() {
        "file.batch" => {
            let whole = state.store.event(event.id).await?;
            let batch: Option<FileFacts> = serde_json::from_slice(&whole.body).ok();
            let files = batch.map(|batch| batch.files).unwrap_or_default();
            u32::try_from(files.iter().filter(|file| is_it(&file.path)).count()).unwrap_or(u32::MAX)
        }
        "file.arrived" | "file.created" | "file.modified" => {
            u32::from(event.subject.as_deref().is_some_and(is_it))
        }
        _ => 0,
    })
}

pub(super) async fn watching(state: &AppState, live: &Live) -> Result<Vec<Watching>, StoreError> {
    let here = state.hub.online();
    let key = live.trigger.key();
    let health = |agent: &Agent| {
        let watch =
            here.iter().find(|online| online.agent_id == agent.id).map(|online| online.watches.get(&key));
        match (watch, agent.connection) {
            (Some(Some(watch)), _) => watch.health.name(),
            // Connected here, and it has not said yet.
            (Some(None), _) => WatchHealth::Offline.name(),
            // Another server knows how its watch does; what it has told of counts.
            (None, Connection::Online) => WatchHealth::Live.name(),
            (None, Connection::Offline) => "away",
        }
    };
    let agents = state.store.agents().await?;
    let watching =
        agents.iter().filter(|agent| live.trigger.is_watched_on(&agent.labels)).map(|agent| Watching {
            agent: agent.id.to_string(),
            watch: health(agent),
            told_until: agent.watermarks.get(&key).copied(),
        });
    Ok(watching.collect())
}

/// Whether all who should have seen a file by then would have told of it.
pub(super) fn is_certain(watching: &[Watching], by: Timestamp) -> bool {
    !watching.is_empty() && watching.iter().all(|watch| watch.told_until.is_some_and(|until| until >= by))
}

pub(super) fn event(
    due: Due<'_>,
    kind: &str,
    status: &str,
    found: u32,
    watching: &[Watching],
    now: Timestamp,
) -> Event {
    let Due { live, clocked, deadline, by } = due;
    let body = json!({
        "trigger": live.trigger.key(), "deadline": by, "state": status,
        "expected": deadline.count, "found": found, "name": deadline.expected(by), "agents": watching,
    });
    let source = fire::source(live, &clocked.schedule.name);
    Event {
        subject: Some(live.trigger.name.to_string()),
        time: by,
        content_type: Some("application/json".to_owned()),
        body: Bytes::from(body.to_string()),
        ..Event::new(SourceKind::Internal, live.trigger.namespace.clone(), source, kind, now)
    }
}
