//! Events: what happened, what was decided about it, and what it caused. And the door for new ones.

mod filter;
pub(super) mod replay;
mod search;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hetuflow_core::{
    event::{DedupeKey, Event, SourceKind},
    id::{EventId, Namespace},
    task::Task,
};
use hetuflow_store::{EventFilter, Ingest, Ingested, Order, Page, StoreError, TaskFilter};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    input::{Input, Params, id},
    page::{Items, cursor_page},
};
use crate::{hooks::Receipt, intake::Candidates};
use filter::Filter;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY: usize = 200;
/// The newest replays that an event names.
const MAX_REPLAYS: u32 = 100;
/// A larger body is not part of the event's JSON.
const MAX_INLINE_BODY: usize = 1024 * 1024;

pub(super) async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items<Event>>, ApiError> {
    let page = cursor_page(filter.limit, filter.cursor)?;
    let search = filter.read(&api.app.triggers.current())?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let found = search.run(&api.app, Order::NewestFirst, page.before, limit).await?;
    Ok(Json(Items::up_to(found.events, found.next)))
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    event: Event,
    tasks: Vec<Task>,
    /// Events that repeat it.
    replays: Vec<EventId>,
    body_size: usize,
    /// `utf-8`, `base64`, or `omitted` (too large; see `events/{id}/body`).
    body_encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

pub(super) async fn show(State(api): State<Api>, Path(event): Path<String>) -> Result<Json<Shown>, ApiError> {
    let event = stored(&api, &event).await?;
    let filter = TaskFilter { event_id: Some(event.id), ..TaskFilter::default() };
    let tasks = api.app.store.tasks(&filter, Page { before: None, limit: 500 }).await?;
    let filter = EventFilter { replay_of: Some(event.id), ..EventFilter::default() };
    let replays = api.app.store.events(&filter, Page { before: None, limit: MAX_REPLAYS }).await?;
    let replays = replays.into_iter().map(|replay| replay.id).collect();
    let (body_encoding, body) = readable(&event.body);
    Ok(Json(Shown { body_size: event.body.len(), event, tasks, replays, body_encoding, body }))
}

async fn stored(api: &Api, event: &str) -> Result<Event, ApiError> {
    match api.app.store.event(id(event)?).await {
        Err(StoreError::NotFound) => {
            Err(ApiError::NotFound("there is no such event (perhaps dropped by retention)".to_owned()))
        }
        found => Ok(found?),
    }
}

fn readable(body: &Bytes) -> (&'static str, Option<String>) {
    if body.len() > MAX_INLINE_BODY {
        return ("omitted", None);
    }
    match std::str::from_utf8(body) {
        Ok(text) => ("utf-8", Some(text.to_owned())),
        Err(_) => ("base64", Some(STANDARD.encode(body))),
    }
}

/// The bytes as received, in a form that no browser interprets.
pub(super) async fn body(State(api): State<Api>, Path(event): Path<String>) -> Result<Response, ApiError> {
    let event = stored(&api, &event).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, event.body).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEvent {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    namespace: Namespace,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    data: Option<Box<serde_json::value::RawValue>>,
}

impl NewEvent {
    pub(super) fn of(
        event_type: String,
        namespace: Namespace,
        source: String,
        data: Option<Box<serde_json::value::RawValue>>,
    ) -> Self {
        Self { event_type, namespace, source: Some(source), subject: None, data }
    }
}

/// The triggers with `[on.event]` of this type decide. `Idempotency-Key` makes a repetition safe.
pub(super) async fn send(
    State(api): State<Api>,
    headers: HeaderMap,
    Input(new): Input<NewEvent>,
) -> Result<Receipt, ApiError> {
    if new.event_type.is_empty() || new.event_type.len() > MAX_KEY {
        return Err(ApiError::BadRequest(format!("type must have 1 to {MAX_KEY} bytes")));
    }
    let now = api.app.clock.now();
    let dedupe = dedupe(&api, &headers, &new.namespace, now)?;
    let set = api.app.triggers.current();
    let judged = api.app.judge.try_to_judge(event(new, now), Arc::clone(&set), Candidates::Events).await?;
    let event_id = judged.event.id;
    let planned = judged.tasks.iter().map(|task| task.id).collect();
    let ingest = Ingest { event: judged.event, dedupe, tasks: judged.tasks };
    match api.app.ingester.submit(ingest).await? {
        Ingested::Stored => Ok(Receipt::new(event_id, planned, false)),
        Ingested::Duplicate { event_id, task_ids, .. } => Ok(Receipt::new(event_id, task_ids, true)),
    }
}

fn event(new: NewEvent, now: Timestamp) -> Event {
    let data = new.data.map_or_else(Bytes::new, |data| Bytes::from(String::from(Box::<str>::from(data))));
    Event {
        subject: new.subject,
        content_type: Some("application/json".to_owned()),
        body: data,
        ..Event::new(
            SourceKind::Api,
            new.namespace,
            new.source.unwrap_or_else(|| "/api".to_owned()),
            new.event_type,
            now,
        )
    }
}

fn dedupe(
    api: &Api,
    headers: &HeaderMap,
    namespace: &Namespace,
    now: Timestamp,
) -> Result<Option<DedupeKey>, ApiError> {
    let expires_at = now.checked_add(api.app.config.hooks.dedupe_for).unwrap_or(Timestamp::MAX);
    let scope = format!("/api/events/{namespace}");
    Ok(idempotency_key(headers)?.map(|key| DedupeKey::new(scope, key.to_owned(), expires_at)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let allowed = |key: &&str| (1..=MAX_KEY).contains(&key.len());
    let wrong = || ApiError::BadRequest(format!("Idempotency-Key must have 1 to {MAX_KEY} ASCII characters"));
    key.to_str().ok().filter(allowed).map(Some).ok_or_else(wrong)
}
