//! What became of a delivery, for whoever sent it: `GET /hooks/-/status/{token}`, whose address is the receipt's
//! `Location`. As JSON, after `?wait=SECONDS` if wanted, or as a stream of what the runs write (`text/event-stream`,
//! [`output`]). A trigger decides how much of it a sender may see.

mod output;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use hetuflow_core::{
    event::Event,
    id::{EventId, StatusToken, TaskId},
    status::Status,
    task::{Outcome, Task},
    trigger::SenderSees,
};
use hetuflow_store::{Page, Store, StoreError, TaskFilter};
use http::{HeaderMap, Uri, header};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::Hooks;
use crate::{
    api::error::ApiError,
    listen::{Peer, Prefix},
    triggers::route_of,
};

/// Tasks of one event that are told of. Each belongs to a trigger of its own, so there are few.
const MAX_TASKS: u32 = 500;
/// Seconds that a caller may wait.
const MAX_WAIT: u64 = 60;
/// How long after the first look at whether it is done comes the second; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// How it stands with an event.
#[derive(Debug, Serialize)]
pub(super) struct EventStatus {
    event_id: EventId,
    /// Nothing of it waits or runs any more.
    pub(super) done: bool,
    pub(super) tasks: Vec<TaskStatus>,
}

#[derive(Debug, Serialize)]
pub(super) struct TaskStatus {
    id: TaskId,
    trigger: String,
    status: Status,
    /// Attempts so far.
    attempt: u32,
    /// How the last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

/// The path of the status of an event.
pub(super) fn location(token: StatusToken) -> String {
    format!("/hooks/-/status/{token}")
}

/// A token says nothing about what else is here: whatever is wrong with it, there is no such delivery.
pub(super) async fn show(
    State(hooks): State<Arc<Hooks>>,
    Path(token): Path<String>,
    peer: Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Err(retry_after) = hooks.rates.check(Prefix::of(peer.0.0.ip())) {
        hooks.app.metrics.hooks_limited.inc();
        return Err(ApiError::TooMany { retry_after });
    }
    let wait = wanted_wait(uri.query())?;
    let token: StatusToken = token.parse().map_err(|_| nothing())?;
    let event = match hooks.app.store.event_of(token).await {
        Err(StoreError::NotFound) => return Err(nothing()),
        found => found?,
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (sees(&hooks, &event), accept.contains("text/event-stream")) {
        (SenderSees::Nothing, _) => Err(nothing()),
        (SenderSees::Status, true) => {
            Err(ApiError::Forbidden("the trigger shows its status, but not its output".to_owned()))
        }
        (SenderSees::Output, true) => output::stream(&hooks, event.id, &headers).await,
        (SenderSees::Status | SenderSees::Output, false) => {
            Ok(Json(wait_for(&hooks, event.id, wait.unwrap_or_default()).await?).into_response())
        }
    }
}

fn nothing() -> ApiError {
    ApiError::NotFound("there is no such delivery".to_owned())
}

/// As the hook's triggers say now; a hook that is gone shows what is left to see.
fn sees(hooks: &Hooks, event: &Event) -> SenderSees {
    let set = hooks.app.triggers.current();
    let route = route_of(event).and_then(|key| set.routes.get(&key));
    route.map_or(SenderSees::Status, |route| route.sender_sees)
}

/// The seconds of `?wait=`, if the query has them.
pub(super) fn wanted_wait(query: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.find(|(name, _)| *name == "wait") else { return Ok(None) };
    match value.parse() {
        Ok(seconds) if seconds <= MAX_WAIT => Ok(Some(Duration::from_secs(seconds))),
        Ok(_) | Err(_) => Err(ApiError::BadRequest(format!(
            "wait is {value:?}: whole seconds, 0 to {MAX_WAIT}, are possible"
        ))),
    }
}

/// Looks until it is done, or for so long. Who finds too many waiting already gets what there is at once.
pub(super) async fn wait_for(
    hooks: &Hooks,
    event_id: EventId,
    wait: Duration,
) -> Result<EventStatus, ApiError> {
    let place = hooks.watchers.try_acquire();
    let end = Instant::now() + if place.is_ok() { wait } else { Duration::ZERO };
    let mut pause = FIRST_PAUSE;
    loop {
        let status = look(&*hooks.app.store, event_id).await?;
        if status.done || Instant::now() >= end {
            return Ok(status);
        }
        tokio::select! {
            () = hooks.shutdown.cancelled() => return Ok(status),
            () = sleep_until(end.min(Instant::now() + pause)) => pause = LAST_PAUSE.min(pause * 2),
        }
    }
}

pub(super) async fn look(store: &dyn Store, event_id: EventId) -> Result<EventStatus, ApiError> {
    let filter = TaskFilter { event_id: Some(event_id), ..TaskFilter::default() };
    let mut tasks = store.tasks(&filter, Page { limit: MAX_TASKS, before: None }).await?;
    tasks.reverse();
    let done = tasks.iter().all(|task| task.status.is_final());
    Ok(EventStatus { event_id, done, tasks: tasks.into_iter().map(TaskStatus::from).collect() })
}

impl From<Task> for TaskStatus {
    fn from(task: Task) -> Self {
        let Task { id, trigger, status, attempt, outcome, finished_at, .. } = task;
        Self { id, trigger, status, attempt, outcome, finished_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_whole_seconds() {
        let check = |query: &str, expected: Option<Option<u64>>| {
            let wait = wanted_wait(Some(query)).ok().map(|wait| wait.map(|wait| wait.as_secs()));
            assert_eq!(wait, expected, "{query:?}");
        };
        check("", Some(None));
        check("a=1&waiting=7", Some(None));
        check("wait=0", Some(Some(0)));
        check("a=1&wait=60", Some(Some(60)));
        for wrong in ["wait=61", "wait=", "wait=-1", "wait=1s", "wait=1.5"] {
            check(wrong, None);
        }
    }
}
