//! Ends of tasks become events where a trigger asks for them (`[on.event] type = "job.succeeded"`). They enter the walk at
//! its step 4 here.
//!
//! Tasks that are planned while such a trigger is in force are marked, and the store keeps the mark until the end has been
//! told, so that a crash in between tells it again: under the same key, which is stored once. The leader tells at once, any
//! other server what the leader has left for a second; what wakes them is a hint. Where nobody asks, there is only a look
//! now and then, for what is marked from before.

#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use hetuflow_core::{
    event::{DecisionOutcome, DedupeKey, Event},
    id::TaskId,
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Ended, Ingest, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    AppState,
    ingest::{IngestError, chain},
    intake::Candidates,
    leader::Leader,
    triggers::TriggerSet,
};

/// Ends that are told together.
const BATCH: u32 = 256;

/// Ends in a row, each of a run that the one before it has started: more are taken for a circle.
const MOST_IN_A_ROW: u32 = 32;

/// The header in which an end says how many there were.
const IN_A_ROW: &str = "hetuflow-ends-in-a-row";
/// The header with the task's id, by which its end is found in the journal.
const TASK: &str = "hetuflow-task";

/// How long nothing can come between a crash and the next look, however long all servers are away.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Between two looks without a hint.
const EVERY: Duration = Duration::from_secs(5);
/// Between two looks while another server leads: what the first one has found and the second one finds again is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks, at least: on a busy server some task changes all the time.
const PAUSE: Duration = Duration::from_millis(10);

/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum EndsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// Runs until `shutdown`.
pub(crate) async fn run(state: AppState, leader: Leader, shutdown: CancellationToken) {
    let (mut tasks, mut triggers) = (state.store.task_changes(), state.triggers.subscribe());
    let (mut failing, mut left) = (false, HashSet::new());
    loop {
        tasks.mark_unchanged();
        let asked = !triggers.borrow_and_update().ends.is_empty();
        let leads = leader.leadership().is_some();
        let looked = if leads { look(&state).await } else { look_after(&state, &mut left).await };
        let wait = match looked {
            Ok(told) => {
                failing = false;
                match (leads, told) {
                    (true, 1..) => Duration::ZERO,
                    (false, _) if asked => PATIENCE,
                    _ => EVERY,
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = chain(&error), "ends of tasks cannot be told; trying on");
                }
                failing = true;
                AGAIN
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            true = hint(&mut tasks), if asked && leads && !failing => sleep(PAUSE).await,
            Ok(()) = triggers.changed() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn hint(tasks: &mut watch::Receiver<u64>) -> bool {
    tasks.changed().await.is_ok()
}

/// Tells what has ended. Yields how many ends that were.
pub(crate) async fn look(state: &AppState) -> Result<usize, EndsError> {
    let ends = state.store.untold_ends(BATCH).await?;
    tell_all(state, &ends).await
}

/// Tells what was there at the last look already, and leaves the rest to the leader.
async fn look_after(state: &AppState, left: &mut HashSet<(TaskId, Timestamp)>) -> Result<usize, EndsError> {
    let ends = state.store.untold_ends(BATCH).await?;
    let (old, new): (Vec<Ended>, Vec<Ended>) = ends.into_iter().partition(|end| left.contains(&place(end)));
    *left = new.iter().map(place).collect();
    tell_all(state, &old).await
}

/// Which end it is: a task that is retried has another one.
fn place(end: &Ended) -> (TaskId, Timestamp) {
    (end.task.id, end.task.finished_at.unwrap_or(end.task.created_at))
}

async fn tell_all(state: &AppState, ends: &[Ended]) -> Result<usize, EndsError> {
    if ends.is_empty() {
        return Ok(0);
    }
    let set = state.triggers.current();
    let wanted = |end: &Ended| set.asks_for(&end.task.namespace, end.task.status);
    let unwanted = ends.iter().any(|end| !wanted(end));
    if unwanted && state.store.trigger_generation().await? != set.generation {
        // A trigger that asks for them may be on its way here.
        state.triggers.look_again();
        return Ok(0);
    }
    failpoint!("end.before");
    let told = join_all(ends.iter().map(|end| tell(state, &set, end))).await;
    failpoint!("end.between");
    // What could be told is noted whatever became of the others.
    let (noted, failed): (Vec<_>, Vec<_>) = told.into_iter().partition(Result::is_ok);
    let noted: Vec<(TaskId, Timestamp)> = noted.into_iter().flatten().collect();
    state.store.note_told(&noted).await?;
    failpoint!("end.after");
    match failed.into_iter().find_map(Result::err) {
        Some(error) => Err(error),
        None => Ok(noted.len()),
    }
}

async fn tell(
    state: &AppState,
    set: &Arc<TriggerSet>,
    end: &Ended,
) -> Result<(TaskId, Timestamp), EndsError> {
    let (task_id, ended_at) = place(end);
    if set.asks_for(&end.task.namespace, end.task.status) {
        let in_a_row = in_a_row(state, set, end).await?;
        let event = event(end, ended_at, in_a_row, state.clock.now());
        let mut judged = state.judge.judge(event, Arc::clone(set), Candidates::Events).await;
        if in_a_row > MOST_IN_A_ROW {
            stop(&mut judged.event);
            judged.tasks.clear();
        }
        let dedupe = Some(key(task_id, ended_at, &judged.event));
        let ingest = Ingest { event: judged.event, dedupe, tasks: judged.tasks };
        state.ingester.submit(ingest).await?;
        state.metrics.ends_told.inc();
    }
    Ok((task_id, ended_at))
}

fn key(task_id: TaskId, ended_at: Timestamp, event: &Event) -> DedupeKey {
    let expires_at = event.received_at.saturating_add(KNOWN_FOR).unwrap_or(Timestamp::MAX);
    DedupeKey::new(event.source.clone(), format!("{task_id}/{}", ended_at.as_microsecond()), expires_at)
}

/// How many ends led to this one, with it.
async fn in_a_row(state: &AppState, set: &TriggerSet, end: &Ended) -> Result<u32, StoreError> {
    let key = format!("{}/{}", end.task.namespace, end.task.trigger);
    if set.live.get(&key).is_none_or(|live| live.trigger.ends().next().is_none()) {
        return Ok(1);
    }
    let before = match state.store.event(end.task.event_id).await {
        Ok(cause) if cause.ended_trigger().is_some() => header(&cause),
        // It was started by something else, or nobody knows any more by what.
        Ok(_) | Err(StoreError::NotFound) => 0,
        Err(error) => return Err(error),
    };
    Ok(before.saturating_add(1))
}

fn header(cause: &Event) -> u32 {
    let value = cause.headers.iter().find(|(name, _)| name == IN_A_ROW).map(|(_, value)| value);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn event(end: &Ended, ended_at: Timestamp, in_a_row: u32, now: Timestamp) -> Event {
    let Ended { task, job } = end;
    let outcome = task.outcome.as_ref();
    let body = json!({
        "job": job, "trigger": task.trigger, "task_id": task.id, "event_id": task.event_id, "status": task.status,
        "reason": outcome.map(|outcome| outcome.reason),
        "exit_code": outcome.and_then(|outcome| outcome.exit_code),
        "signal": outcome.and_then(|outcome| outcome.signal),
        "message": outcome.and_then(|outcome| outcome.message.as_deref()),
        "attempts": task.attempt, "created_at": task.created_at, "finished_at": ended_at,
        "outputs": outcome.map(|outcome| &outcome.outputs),
    });
    Event {
        subject: Some(job.clone()),
        content_type: Some("application/json".to_owned()),
        headers: vec![(TASK.to_owned(), task.id.to_string()), (IN_A_ROW.to_owned(), in_a_row.to_string())],
        body: Bytes::from(body.to_string()),
        ..Event::end_of(&task.trigger, task, ended_at, now)
    }
}

/// What goes in a circle ends here, and says so.
fn stop(event: &mut Event) {
    tracing::error!(event.id = %event.id, event.source = event.source, "ends of jobs start each other in a circle");
    let decisions = event.decisions.iter_mut();
    for decision in decisions.filter(|decision| decision.outcome == DecisionOutcome::Matched) {
        decision.outcome = DecisionOutcome::Skipped;
        decision.reason =
            Some(format!("{MOST_IN_A_ROW} jobs have started each other in a row by their ends: a circle"));
    }
}
