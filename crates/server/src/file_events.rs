//! Files that agents saw: each becomes an event with its tasks, exactly once. Step 3 of the walk for files.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures_util::future::join_all;
use hetuflow_core::{
    event::{Decision, DecisionOutcome, DedupeKey, Event, SourceKind, Verdict},
    id::{AgentId, EventId, TaskId},
    matching::{self, Body, Facts, Plan},
    protocol::{FileBatchAck, FileEvent, FileVerdict},
    trigger::{FileSource, RunOn},
};
use hetuflow_store::{Ingest, Ingested};
use jiff::{SignedDuration, Timestamp};

use crate::{AppState, gateway::watches, ingest::IngestError, triggers::Live};

/// How long a version of a file is recognised when it is reported again.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What became of a batch: the rest may be handed in again.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) acks: Vec<FileBatchAck>,
    pub(crate) rest: Vec<FileEvent>,
    /// Why there is a rest.
    pub(crate) error: Option<IngestError>,
}

/// Stores what the agent saw. What is acknowledged is durable, or needs no storing.
pub(crate) async fn accept(state: &AppState, agent_id: &AgentId, batch: Vec<FileEvent>) -> Accepted {
    let verdicts = join_all(batch.iter().map(|file| accept_one(state, agent_id, file))).await;
    let mut accepted = Accepted::default();
    for (file, verdict) in batch.into_iter().zip(verdicts) {
        match verdict {
            Ok(verdict) => {
                accepted.acks.push(FileBatchAck { key: file.key, dedupe: file.dedupe, verdict });
            }
            Err(error) => {
                accepted.rest.push(file);
                accepted.error = Some(error);
            }
        }
    }
    accepted
}

async fn accept_one(
    state: &AppState,
    agent_id: &AgentId,
    file: &FileEvent,
) -> Result<FileVerdict, IngestError> {
    let set = state.triggers.current();
    let Some(watched) = watches::find(&set, &file.key) else { return Ok(FileVerdict::Unwatched) };
    let ingest = ingest(watched, agent_id, file, state.clock.now());
    match state.ingester.submit(ingest).await? {
        Ingested::Stored => Ok(FileVerdict::Accepted),
        Ingested::Duplicate { .. } => Ok(FileVerdict::Duplicate),
    }
}

fn ingest(
    (live, index, source): (&Live, usize, &FileSource),
    agent_id: &AgentId,
    file: &FileEvent,
    now: Timestamp,
) -> Ingest {
    let event = event(live, agent_id, file, now);
    let body = Body::parse(event.content_type.as_deref(), &event.body).unwrap_or(Body::Empty);
    let facts = Facts { event: &event, body: &body, file: Some(&file.facts) };
    let task = matching::plan(
        &Plan {
            trigger: &live.trigger,
            job_id: live.job_id,
            job: &live.job,
            schedule_id: live.schedule_id("file", index),
            agent: match source.run_on {
                RunOn::Origin => Some(agent_id),
                RunOn::Anywhere => None,
            },
            task_id: TaskId::at(now),
            run_at: now,
        },
        &facts,
    );
    // Per agent: two hosts can have the same version of the same path, and both are meant.
    let dedupe = DedupeKey {
        scope: event.source.clone(),
        key: file.dedupe.clone(),
        expires_at: now.saturating_add(REMEMBERED).unwrap_or(Timestamp::MAX),
    };
    Ingest { event, dedupe: Some(dedupe), tasks: vec![task] }
}

fn event(live: &Live, agent_id: &AgentId, file: &FileEvent, now: Timestamp) -> Event {
    // A struct of texts and numbers always becomes JSON.
    let body = serde_json::to_vec(&file.facts).unwrap_or_default();
    Event {
        id: EventId::at(now),
        namespace: live.trigger.namespace.clone(),
        kind: SourceKind::File,
        source: format!("/agents/{agent_id}/files/{}", file.key),
        event_type: format!("file.{}", file.facts.change),
        subject: Some(file.facts.path.clone()),
        time: file.seen_at,
        received_at: now,
        content_type: Some("application/json".to_owned()),
        headers: Vec::new(),
        query: None,
        verdict: Verdict::Accepted,
        decisions: vec![Decision {
            trigger: live.trigger.name.to_string(),
            outcome: DecisionOutcome::Matched,
            reason: None,
        }],
        body: Bytes::from(body),
    }
}
