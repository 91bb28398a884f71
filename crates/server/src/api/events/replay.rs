//! Repeating events: one, or a stretch of many. The client walks over many as it does over tasks, at its own pace; with an
//! `Idempotency-Key` it may begin again after a cut, because what was repeated under that key is not repeated twice.

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::id::EventId;
use hetuflow_store::{Order, StoreError};
use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{filter::Filter, idempotency_key, search::is_repeatable, stored};
use crate::{
    api::{
        Api, ApiError,
        input::{Input, Params},
    },
    replay::{Definition, ReplayError, Replayed, replay},
};

/// Events that one request repeats, at most: each waits for its commit.
const MAX_LIMIT: usize = 200;
const DEFAULT_LIMIT: usize = 50;
/// Events of one part of a count.
const PART: usize = 10_000;

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Refused(reason) => Self::Conflict(reason),
            ReplayError::Store(error) => error.into(),
            ReplayError::Ingest(error) => error.into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct One {
    #[serde(default)]
    definition: Definition,
}

pub(in crate::api) async fn one(
    State(api): State<Api>,
    Path(event): Path<String>,
    headers: HeaderMap,
    Input(wanted): Input<One>,
) -> Result<Json<Replayed>, ApiError> {
    let key = idempotency_key(&headers)?;
    let original = stored(&api, &event).await?;
    let id = original.id;
    let replayed = replay(&api.app, original, wanted.definition, key).await?;
    tracing::info!(event.id = %replayed.event_id, original = %id, "event replayed");
    Ok(Json(replayed))
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct Counted {
    /// Of those that have been looked at, the ones that can be repeated.
    count: usize,
    /// When it was counted: as `until` of what follows, it keeps the walk to these events.
    as_of: Timestamp,
    /// Give it as `cursor` to count on; null at the end.
    next_cursor: Option<Uuid>,
}

/// How many events a replay with this filter is about, oldest first.
pub(in crate::api) async fn count(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Counted>, ApiError> {
    let as_of = api.app.clock.now();
    let from = filter.cursor;
    let search = filter.read(&api.app.triggers.current())?;
    let found = search.run(&api.app, Order::OldestFirst, from, PART).await?;
    let count = found.events.iter().filter(|event| is_repeatable(event, &search.filter)).count();
    Ok(Json(Counted { count, as_of, next_cursor: found.next }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Many {
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    definition: Definition,
    limit: Option<usize>,
    after: Option<Uuid>,
}

#[derive(Debug, Default, Serialize)]
pub(in crate::api) struct Done {
    replayed: u64,
    /// Repeated before under the same key.
    known: u64,
    tasks: u64,
    refused: Vec<Refusal>,
    /// `after` of the next request; null at the end.
    next: Option<Uuid>,
}

#[derive(Debug, Serialize)]
struct Refusal {
    event_id: EventId,
    reason: String,
}

pub(in crate::api) async fn many(
    State(api): State<Api>,
    headers: HeaderMap,
    Input(wanted): Input<Many>,
) -> Result<Json<Done>, ApiError> {
    let key = idempotency_key(&headers)?;
    let limit = wanted.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::BadRequest(format!("limit is {limit}; allowed is 1 to {MAX_LIMIT}")));
    }
    // What is left out must not mean "everything that ever happened".
    if wanted.filter.is_empty() {
        return Err(ApiError::BadRequest(
            "filter says which events are meant, at least since when".to_owned(),
        ));
    }
    if wanted.filter.limit.is_some() || wanted.filter.cursor.is_some() {
        return Err(ApiError::BadRequest("limit and after stand beside the filter, not in it".to_owned()));
    }
    let search = wanted.filter.read(&api.app.triggers.current())?;
    let found = search.run(&api.app, Order::OldestFirst, wanted.after, limit).await?;
    let mut done = Done { next: found.next, ..Done::default() };
    for event in found.events.iter().filter(|event| is_repeatable(event, &search.filter)) {
        done.add(&api, event.id, wanted.definition, key).await?;
    }
    tracing::info!(replayed = done.replayed, refused = done.refused.len(), "events replayed in bulk");
    Ok(Json(done))
}

impl Done {
    async fn add(
        &mut self,
        api: &Api,
        event_id: EventId,
        definition: Definition,
        key: Option<&str>,
    ) -> Result<(), ApiError> {
        let original = match api.app.store.event(event_id).await {
            Err(StoreError::NotFound) => return Ok(()),
            original => original?,
        };
        match replay(&api.app, original, definition, key).await {
            Ok(replayed) if replayed.duplicate => self.known += 1,
            Ok(replayed) => {
                self.replayed += 1;
                self.tasks += replayed.task_ids.len() as u64;
            }
            Err(ReplayError::Refused(reason)) => self.refused.push(Refusal { event_id, reason }),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
