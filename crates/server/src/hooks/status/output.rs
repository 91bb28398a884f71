//! What the runs of one event write, as server-sent events: all attempts of its first task, then those of the next.
//! - `output`, with `id: TASK.FENCE.SEQ` (the task's place among the event's): `{"task_id", "attempt", "seq", "stream",
//!   "text"}`, or `base64` instead of `text`
//! - `end`, once everything has ended: the status as JSON
//!
//! A reader that comes back with `Last-Event-ID` hears what comes after it.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::stream;
use hetuflow_core::{
    id::{EventId, TaskId},
    task::{OutputChunk, TaskInstance},
};
use hetuflow_store::{InstanceFilter, Page};
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{EventStatus, look};
use crate::{
    api::{
        error::ApiError,
        logs::{Item, Piece, Reader, Until},
    },
    hooks::Hooks,
};

/// Attempts of one task, at most, among which the next one is looked for.
const ATTEMPTS: u32 = 500;
/// How often a reader that has everything looks for the next attempt.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Up to where somebody has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    /// The place of the task among those of the event.
    task: usize,
    fence: i64,
    /// The next piece of that attempt; `None` once all were read.
    next: Option<u64>,
}

/// The stream breaks off, so that nobody takes it for the end.
#[derive(Debug, thiserror::Error)]
#[error("the output breaks off here")]
struct Broken;

struct Follower {
    hooks: Arc<Hooks>,
    event_id: EventId,
    tasks: Vec<TaskId>,
    at: Position,
    reading: Option<(TaskInstance, Reader)>,
    done: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn stream(
    hooks: &Arc<Hooks>,
    event_id: EventId,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let at = headers.get("last-event-id").map_or(Ok(Position::default()), |id| {
        let position = id.to_str().ok().and_then(|text| text.parse().ok());
        position.ok_or_else(|| {
            ApiError::BadRequest("Last-Event-ID must be the id of an event of this stream".to_owned())
        })
    })?;
    let place = Arc::clone(&hooks.watchers).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Unavailable("too many read or wait already".to_owned()))?;
    let EventStatus { tasks, .. } = look(&*hooks.app.store, event_id).await?;
    let tasks = tasks.iter().map(|task| task.id).collect();
    let hooks = Arc::clone(hooks);
    let follower = Follower { hooks, event_id, tasks, at, reading: None, done: false, _place: place };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Event, Broken>> {
        while !self.done {
            let event = match self.step().await {
                Ok(None) => continue,
                Ok(Some(event)) => Ok(event),
                Err(error) => {
                    tracing::warn!(error = %error, event.id = %self.event_id, "output could not be read to its end");
                    self.done = true;
                    Err(Broken)
                }
            };
            return Some(event);
        }
        None
    }

    async fn step(&mut self) -> Result<Option<Event>, ApiError> {
        if let Some((attempt, reader)) = &mut self.reading {
            match reader.next().await {
                Some(Item::Piece(chunk)) => {
                    self.at.next = Some(chunk.seq + 1);
                    return Ok(Some(told(self.at, attempt, &chunk)));
                }
                Some(Item::Broken) => {
                    return Err(ApiError::Internal("its attempt cannot be read".to_owned()));
                }
                Some(Item::End(_)) | None => {
                    self.reading = None;
                    self.at.next = None;
                }
            }
        }
        if self.hooks.shutdown.is_cancelled() {
            self.done = true;
            return Ok(None);
        }
        self.go_on().await
    }

    /// To the next attempt, or to the next task when this one has ended, or to the end.
    async fn go_on(&mut self) -> Result<Option<Event>, ApiError> {
        let store = Arc::clone(&self.hooks.app.store);
        let Some(&task_id) = self.tasks.get(self.at.task) else {
            self.done = true;
            let status = look(&*store, self.event_id).await?;
            return Ok(Some(Event::default().event("end").data(json(&status))));
        };
        // The task first: an attempt that comes later is of a task that has not ended.
        let ended = store.task(task_id).await?.status.is_final();
        let filter = InstanceFilter { task_id: Some(task_id), ..InstanceFilter::default() };
        let attempts = store.instances(&filter, Page { limit: ATTEMPTS, before: None }).await?;
        let left = |attempt: &TaskInstance| {
            attempt.fence > self.at.fence || (attempt.fence == self.at.fence && self.at.next.is_some())
        };
        match attempts.into_iter().filter(left).min_by_key(|attempt| attempt.fence) {
            Some(attempt) => {
                let next = self.at.next.filter(|_| attempt.fence == self.at.fence).unwrap_or(0);
                self.at = Position { fence: attempt.fence, next: Some(next), ..self.at };
                let shutdown = self.hooks.shutdown.clone();
                let reader = Reader::new(store, shutdown, attempt.id, next, Until::Ended);
                self.reading = Some((attempt, reader));
            }
            None if ended => self.at = Position { task: self.at.task + 1, ..Position::default() },
            None => tokio::select! {
                () = self.hooks.shutdown.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            },
        }
        Ok(None)
    }
}

#[derive(Serialize)]
struct Told<'a> {
    task_id: TaskId,
    attempt: u32,
    #[serde(flatten)]
    piece: Piece<'a>,
}

fn told(at: Position, attempt: &TaskInstance, chunk: &OutputChunk) -> Event {
    let told = Told { task_id: attempt.task_id, attempt: attempt.attempt, piece: Piece::of(chunk) };
    let id = format!("{}.{}.{}", at.task, at.fence, chunk.seq);
    Event::default().event("output").id(id).data(json(&told))
}

fn json(value: &impl Serialize) -> String {
    // Strings and numbers always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// Of the last piece that was heard.
impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (Some(task), Some(fence), Some(seq), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let seq: u64 = seq.parse().map_err(|_| ())?;
        Ok(Self {
            task: task.parse().map_err(|_| ())?,
            fence: fence.parse().map_err(|_| ())?,
            next: Some(seq.checked_add(1).ok_or(())?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back() {
        let check =
            |text: &str, expected: Option<Position>| assert_eq!(text.parse().ok(), expected, "{text:?}");
        check("0.1.7", Some(Position { task: 0, fence: 1, next: Some(8) }));
        for wrong in ["", "7", "0.1", "0.1.2.3", "a.1.2", "0.1.-2", "0.1.18446744073709551615"] {
            check(wrong, None);
        }
    }
}
