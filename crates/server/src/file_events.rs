//! Files that agents saw: each becomes an event with its tasks, exactly once. Files enter the walk at its step 4 here.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use hetuflow_core::{
    event::{DecisionOutcome, DedupeKey, Event, SourceKind},
    id::{AgentId, EventId, ScheduleId, TaskId},
    labels::Labels,
    matching::{self, Body, Facts, Plan},
    protocol::{FileBatchAck, FileEvent, FileOutcome, FileVerdict},
    status::Status,
    trigger::{FileLimits, FileSource, RunOn},
};
use hetuflow_store::{Backlog, EventFilter, Ingest, Ingested, Page, StoreError, TaskFilter};
use jiff::{SignedDuration, Timestamp};

use crate::{
    AppState,
    ingest::{IngestError, chain},
    intake::Candidates,
    triggers::{Live, TriggerSet},
};

/// Events that one question may be about.
pub(crate) const MOST_ASKED: usize = 1000;

/// What became of a batch: the rest may be handed in again.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) acks: Vec<FileBatchAck>,
    pub(crate) rest: Vec<FileEvent>,
    /// Why there is a rest.
    pub(crate) error: Option<IngestError>,
}

/// Stores what the agent saw. What is acknowledged is durable, or needs no storing; of what this server cannot judge yet
/// nothing is said, so that the agent tells it again.
pub(crate) async fn accept(
    state: &AppState,
    agent_id: &AgentId,
    labels: &Labels,
    batch: Vec<FileEvent>,
) -> Accepted {
    let set = match current(state, &batch).await {
        Ok(set) => set,
        Err(error) => return Accepted { rest: batch, error: Some(error), ..Accepted::default() },
    };
    let verdicts = join_all(batch.iter().map(|file| async {
        match set.live.get(&file.key) {
            Some(live) if !live.trigger.files.is_empty() => {
                let now = state.clock.now();
                let ingest = if file.facts.is_notice() {
                    notice(state, &set, live, agent_id, labels, file, now).await
                } else {
                    ingest(live, agent_id, labels, file, now)
                };
                submit(state, ingest).await.map(Some)
            }
            None if set.may_come(&file.key) => Ok(None),
            _ => Ok(Some(Answer { verdict: FileVerdict::Unwatched, event_id: None, known: Vec::new() })),
        }
    }))
    .await;
    let mut accepted = Accepted::default();
    for (file, verdict) in batch.into_iter().zip(verdicts) {
        match verdict {
            Ok(None) => {
                tracing::warn!(trigger = file.key, "a file of a trigger that does not work here waits");
            }
            Ok(Some(Answer { verdict, event_id, known })) => {
                let FileEvent { key, dedupe, .. } = file;
                accepted.acks.push(FileBatchAck { key, dedupe, verdict, event_id, known });
            }
            Err(error) => {
                accepted.rest.push(file);
                accepted.error = Some(error);
            }
        }
    }
    accepted
}

/// The triggers in force, and all that are stored where one of the files is of a trigger that is not there: the agent forgets
/// files of what does not exist any more.
async fn current(state: &AppState, batch: &[FileEvent]) -> Result<Arc<TriggerSet>, IngestError> {
    let set = state.triggers.current();
    if batch.iter().all(|file| set.live.contains_key(&file.key)) {
        return Ok(set);
    }
    match state.triggers.caught_up(&*state.store).await {
        Ok(Some(set)) => Ok(set),
        Ok(None) => Err(IngestError::Store("newer triggers are stored than are in force here".to_owned())),
        Err(error) => Err(IngestError::Store(chain(&error))),
    }
}

struct Answer {
    verdict: FileVerdict,
    event_id: Option<EventId>,
    known: Vec<(String, EventId)>,
}

async fn submit(state: &AppState, ingest: Ingest) -> Result<Answer, IngestError> {
    let id = ingest.event.id;
    let (verdict, event_id, known) = match state.ingester.submit(ingest).await? {
        Ingested::Stored => (FileVerdict::Accepted, Some(id), Vec::new()),
        Ingested::Duplicate { event_id, parts, .. } if parts.is_empty() => {
            (FileVerdict::Duplicate, Some(event_id), parts)
        }
        Ingested::Duplicate { parts, .. } => (FileVerdict::Overlaps, None, parts),
    };
    Ok(Answer { verdict, event_id, known })
}

/// How the tasks of an event stand.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) outcome: FileOutcome,
    /// Tasks that may change it.
    pub(crate) awaited: Vec<TaskId>,
}

/// How the tasks of an event stand: what becomes of its files waits for it, or other files do. Where it has not ended well,
/// a replay of it that has stands for it.
pub(crate) async fn standing(state: &AppState, event: EventId) -> Result<Standing, StoreError> {
    let mut standing = own(state, event).await?;
    if !matches!(standing.outcome, FileOutcome::Failed | FileOutcome::Lost) {
        return Ok(standing);
    }
    let filter = EventFilter { replay_of: Some(event), ..EventFilter::default() };
    for replay in state.store.events(&filter, Page::default()).await? {
        let again = own(state, replay.id).await?;
        standing.awaited.extend(again.awaited);
        match again.outcome {
            FileOutcome::Succeeded => return Ok(Standing { awaited: Vec::new(), ..again }),
            FileOutcome::Open => standing.outcome = FileOutcome::Open,
            FileOutcome::Failed | FileOutcome::Cancelled | FileOutcome::Lost | FileOutcome::Unknown => {}
        }
    }
    Ok(standing)
}

async fn own(state: &AppState, event: EventId) -> Result<Standing, StoreError> {
    let filter = TaskFilter { event_id: Some(event), ..TaskFilter::default() };
    let tasks = state.store.tasks(&filter, Page::default()).await?;
    let statuses: Vec<Status> = tasks.iter().map(|task| task.status).collect();
    let ended = |status: Status| matches!(status, Status::Succeeded | Status::Cancelled);
    let awaited = tasks.iter().filter(|task| !ended(task.status)).map(|task| task.id).collect();
    Ok(Standing { outcome: outcome(&statuses), awaited })
}

fn outcome(tasks: &[Status]) -> FileOutcome {
    let any = |wanted: fn(&Status) -> bool| tasks.iter().any(wanted);
    if tasks.is_empty() {
        FileOutcome::Unknown
    } else if any(|status| !status.is_final()) {
        FileOutcome::Open
    } else if any(|status| *status == Status::Lost) {
        FileOutcome::Lost
    } else if any(|status| matches!(status, Status::Failed | Status::TimedOut)) {
        FileOutcome::Failed
    } else if any(|status| *status == Status::Cancelled) {
        FileOutcome::Cancelled
    } else {
        FileOutcome::Succeeded
    }
}

/// How many more files of a trigger are taken, so that no more of its tasks wait than `limits.max_pending`. What it does
/// not know is answered by what is told of it.
pub(crate) async fn room(
    state: &AppState,
    agent_id: &AgentId,
    labels: &Labels,
    key: &str,
) -> Result<u64, StoreError> {
    let set = state.triggers.current();
    let Some(live) = set.live.get(key) else { return Ok(u64::from(u32::MAX)) };
    let most = sources(live, labels).map(|(_, source)| source.limits.max_pending).min();
    let most = most.unwrap_or_else(|| FileLimits::default().max_pending);
    let backlog = Backlog {
        namespace: &live.trigger.namespace,
        trigger: live.trigger.name.as_str(),
        agent: stays(live, labels).then_some(agent_id),
        most,
    };
    let waiting = state.store.backlog(backlog).await?;
    if waiting >= most {
        state.metrics.files_withheld.inc();
    }
    Ok(most.saturating_sub(waiting))
}

/// What a file that an agent saw is to become.
pub(crate) fn ingest(
    live: &Live,
    agent_id: &AgentId,
    labels: &Labels,
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
            schedule_id: schedule_id(live, labels),
            agent: stays(live, labels).then_some(agent_id),
            task_id: TaskId::at(now),
            run_at: now,
            telling: live.telling,
        },
        &facts,
    );
    let dedupe = dedupe(live, labels, file, &event, now);
    Ingest { event, dedupe: Some(dedupe), tasks: vec![task] }
}

/// What the agent noticed about a file runs nothing of the trigger that watches for it: it is for others.
async fn notice(
    state: &AppState,
    set: &Arc<TriggerSet>,
    live: &Live,
    agent_id: &AgentId,
    labels: &Labels,
    file: &FileEvent,
    now: Timestamp,
) -> Ingest {
    let mut event = event(live, agent_id, file, now);
    event.decisions.clear();
    let dedupe = dedupe(live, labels, file, &event, now);
    let judged = state.judge.judge(event, Arc::clone(set), Candidates::Events).await;
    Ingest { event: judged.event, dedupe: Some(dedupe), tasks: judged.tasks }
}

/// Per agent, because two hosts can have the same version of the same path, and both are meant; unless it is of a file
/// system that they share. A batch has the keys of its files too: however they are put together once more, each is told once.
fn dedupe(live: &Live, labels: &Labels, file: &FileEvent, event: &Event, now: Timestamp) -> DedupeKey {
    let ttl = sources(live, labels).map(|(_, source)| source.dedupe.ttl).max().unwrap_or_default();
    let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
    let shared = sources(live, labels).any(|(_, source)| source.share.is_some());
    let scope = if shared { format!("/shares/files/{}", file.key) } else { event.source.clone() };
    let key = DedupeKey::new(scope, file.dedupe.clone(), now.saturating_add(ttl).unwrap_or(Timestamp::MAX));
    DedupeKey { parts: file.members.clone(), ..key }
}

/// The entries of the trigger that this agent watches for, with their places. Which of several saw the
/// file is not told: to the server they are one.
fn sources<'a>(live: &'a Live, labels: &'a Labels) -> impl Iterator<Item = (usize, &'a FileSource)> {
    live.trigger.files.iter().enumerate().filter(|(_, source)| source.agents.matches(labels))
}

/// Whether the task belongs to the agent's machine: unless every entry says that it may run anywhere.
fn stays(live: &Live, labels: &Labels) -> bool {
    let mut sources = sources(live, labels).peekable();
    sources.peek().is_none() || sources.any(|(_, source)| source.run_on == RunOn::Origin)
}

fn schedule_id(live: &Live, labels: &Labels) -> Option<ScheduleId> {
    sources(live, labels).next().and_then(|(index, _)| live.schedule_id("file", index))
}

fn event(live: &Live, agent_id: &AgentId, file: &FileEvent, now: Timestamp) -> Event {
    // A struct of texts and numbers always becomes JSON.
    let body = serde_json::to_vec(&file.facts).unwrap_or_default();
    Event {
        subject: Some(file.facts.path.clone()),
        time: file.seen_at,
        content_type: Some("application/json".to_owned()),
        decisions: vec![live.decision(DecisionOutcome::Matched, None)],
        body: Bytes::from(body),
        ..Event::new(
            SourceKind::File,
            live.trigger.namespace.clone(),
            format!("/agents/{agent_id}/files/{}", file.key),
            format!("file.{}", file.facts.change),
            now,
        )
    }
}
