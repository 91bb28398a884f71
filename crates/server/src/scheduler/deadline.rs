//! Deadlines of files: at each, the files that came are counted. Too few are an event `file.missing` for other triggers,
//! which says whether the agents that should have seen them were watching: what nobody watched for is not missing but
//! unknown. One (schedule, time) pair is judged once, like any fire.

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_core::{
    agent::Connection,
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

/// Events that are looked at for one deadline, at most.
const MOST_EVENTS: u32 = 5000;

/// Who should have seen the files.
#[derive(Debug, Serialize)]
struct Watching {
    agent: String,
    /// `live`, `polling`, `degraded`, `offline`, `refused`; `away` without a connection.
    watch: &'static str,
}

/// What is stored when the deadline has passed. `None`: it is too early, and the schedule stays due.
pub(super) async fn judge(
    state: &AppState,
    set: &Arc<TriggerSet>,
    (live, clocked, deadline): (&Live, &Clocked, &Deadline),
    by: Timestamp,
    now: Timestamp,
) -> Result<Option<Fire>, StoreError> {
    if now < deadline.looks_at(by) {
        return Ok(None);
    }
    let next = match step(clocked, by, now) {
        Step::Fire { next, .. } => next,
        Step::Pass { .. } => return Ok(Some(fire::fire(live, clocked, by, now))),
    };
    let found = count(state, live, deadline, by).await?;
    let ingest = if found >= deadline.count {
        None
    } else {
        let watching = watching(state, live).await?;
        let event = missing(live, clocked, deadline, (by, now), found, &watching);
        let judged = state.judge.judge(event, Arc::clone(set), Candidates::Events).await;
        Some(Ingest { event: judged.event, dedupe: None, tasks: judged.tasks })
    };
    Ok(Some(Fire { id: clocked.id, run_at: by, next, ingest, turns: None }))
}

/// Files of the trigger that were told in the window. Those that came within the time of grace count too.
async fn count(state: &AppState, live: &Live, deadline: &Deadline, by: Timestamp) -> Result<u32, StoreError> {
    let filter = EventFilter {
        namespace: Some(live.trigger.namespace.clone()),
        kind: Some(SourceKind::File),
        source: Some(format!("files/{}", live.trigger.key())),
        since: Some(deadline.since(by)),
        ..EventFilter::default()
    };
    let page = Page { before: None, limit: MOST_EVENTS };
    let expected = deadline.expected(by);
    let is_it = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        expected.as_ref().is_none_or(|expected| expected == name)
    };
    let mut found = 0_u32;
    for event in state.store.events(&filter, page).await? {
        if event.replay_of.is_some() {
            continue;
        }
        found += match event.event_type.as_str() {
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
        };
        if found >= deadline.count {
            break;
        }
    }
    Ok(found)
}

async fn watching(state: &AppState, live: &Live) -> Result<Vec<Watching>, StoreError> {
    let here = state.hub.online();
    let key = live.trigger.key();
    let mut all = Vec::new();
    for agent in state.store.agents().await? {
        if !live.trigger.files.iter().any(|source| source.agents.matches(&agent.labels)) {
            continue;
        }
        let watch =
            here.iter().find(|online| online.agent_id == agent.id).map(|online| online.watches.get(&key));
        let watch = match (watch, agent.connection) {
            (Some(Some(watch)), _) => watch.health.name(),
            // Connected here, and it has not said yet.
            (Some(None), _) => WatchHealth::Offline.name(),
            // Another server knows how its watch does.
            (None, Connection::Online) => WatchHealth::Live.name(),
            (None, Connection::Offline) => "away",
        };
        all.push(Watching { agent: agent.id.to_string(), watch });
    }
    Ok(all)
}

fn missing(
    live: &Live,
    clocked: &Clocked,
    deadline: &Deadline,
    (by, now): (Timestamp, Timestamp),
    found: u32,
    watching: &[Watching],
) -> Event {
    let works = |watch: &Watching| ["live", "polling"].contains(&watch.watch);
    let certain = !watching.is_empty() && watching.iter().all(works);
    let body = json!({
        "trigger": live.trigger.key(), "deadline": by, "state": if certain { "missing" } else { "unknown" },
        "expected": deadline.count, "found": found, "name": deadline.expected(by), "agents": watching,
    });
    let source = fire::source(live, &clocked.schedule.name);
    Event {
        subject: Some(live.trigger.name.to_string()),
        time: by,
        content_type: Some("application/json".to_owned()),
        body: Bytes::from(body.to_string()),
        ..Event::new(SourceKind::Internal, live.trigger.namespace.clone(), source, "file.missing", now)
    }
}
