//! One decision for many tasks: how many there are, and retry or cancel, one stretch per request. The client
//! walks: it gives `next` of an answer as `after` of the next request, and may begin again after a cut, because what
//! was done does not match any more.

use axum::{Json, extract::State};
use hetuflow_core::{id::TaskId, status::Status};
use hetuflow_store::{Stretch, TaskFilter};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::filter::{ListQuery, PageFilter};
use crate::api::{
    Api, ApiError,
    input::{Input, Params},
};

/// Tasks of one request, at most: one transaction that other writers do not wait for long.
const MAX_LIMIT: u32 = 500;
const DEFAULT_LIMIT: u32 = 200;

/// Counting more than this would tell nobody more.
const MAX_COUNT: u64 = 1_000_000;

#[derive(Debug, Serialize)]
pub(in crate::api) struct Count {
    /// At most 1,000,000.
    count: u64,
    /// When it was counted: as `until` of what follows, it keeps the walk to these tasks.
    as_of: Timestamp,
}

pub(in crate::api) async fn count(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Count>, ApiError> {
    let as_of = api.app.clock.now();
    let count = api.app.store.count_tasks(&query.filter()?, MAX_COUNT).await?;
    Ok(Json(Count { count, as_of }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Bulk {
    #[serde(default)]
    filter: PageFilter,
    limit: Option<u32>,
    after: Option<TaskId>,
}

impl Bulk {
    /// The filter must name statuses, and only such that the verb can change: what is left out must
    /// not mean "everything".
    fn read(&self, kind: fn(Status) -> bool, allowed: &str) -> Result<(TaskFilter, Stretch), ApiError> {
        let filter = self.filter.filter()?;
        if filter.status.is_empty() {
            return Err(ApiError::BadRequest(format!(
                "filter.status says which tasks are meant: {{\"in\": [{allowed}]}}"
            )));
        }
        if let Some(other) = filter.status.iter().find(|status| !kind(**status)) {
            return Err(ApiError::BadRequest(format!("filter.status cannot be {other}; allowed: {allowed}")));
        }
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::BadRequest(format!("limit is {limit}; allowed is 1 to {MAX_LIMIT}")));
        }
        Ok((filter, Stretch { after: self.after, limit }))
    }
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct AfterRetry {
    retried: u64,
    /// Tasks without a command: their templates could not be filled.
    skipped: u64,
    /// `after` of the next request; null at the end.
    next: Option<TaskId>,
}

pub(in crate::api) async fn retry(
    State(api): State<Api>,
    Input(bulk): Input<Bulk>,
) -> Result<Json<AfterRetry>, ApiError> {
    let allowed = "\"failed\", \"timed_out\", \"lost\", \"cancelled\", \"succeeded\"";
    let (filter, stretch) = bulk.read(Status::is_final, allowed)?;
    let done = api.app.store.retry_all(&filter, stretch, api.app.clock.now()).await?;
    tracing::info!(retried = done.retried, skipped = done.skipped, "tasks retried in bulk");
    Ok(Json(AfterRetry { retried: done.retried, skipped: done.skipped, next: done.next }))
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct AfterCancel {
    cancelled: u64,
    /// Agents hold these and are asked to end them.
    asked: u64,
    /// `after` of the next request; null at the end.
    next: Option<TaskId>,
}

pub(in crate::api) async fn cancel(
    State(api): State<Api>,
    Input(bulk): Input<Bulk>,
) -> Result<Json<AfterCancel>, ApiError> {
    let allowed = "\"pending\", \"waiting_retry\", \"locked\", \"dispatched\", \"running\"";
    let (filter, stretch) = bulk.read(|status| !status.is_final(), allowed)?;
    // Agents hear of it through the dispatch loop, which the change wakes.
    let done = api.app.store.cancel_all(&filter, stretch, api.app.clock.now()).await?;
    tracing::info!(cancelled = done.cancelled, asked = done.asked, "tasks cancelled in bulk");
    Ok(Json(AfterCancel { cancelled: done.cancelled, asked: done.asked, next: done.next }))
}
