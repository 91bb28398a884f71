//! Events: what happened, what was decided about it, and what it caused. And the door for new ones.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hetuflow_core::{
    event::{DedupeKey, Event, SourceKind, Verdict},
    id::{EventId, Namespace},
    task::Task,
};
use hetuflow_store::{EventFilter, Ingest, Ingested, Page, StoreError, TaskFilter};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Api, ApiError,
    input::{Input, Params, id},
    page::{Items, cursor_page},
};
use crate::{hooks::Receipt, intake::Candidates};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY: usize = 200;
/// A larger body is not part of the event's JSON.
const MAX_INLINE_BODY: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    namespace: Option<Namespace>,
    kind: Option<SourceKind>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    verdict: Option<String>,
    limit: Option<u32>,
    cursor: Option<Uuid>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items<Event>>, ApiError> {
    if let Some(verdict) = &filter.verdict
        && Verdict::from_parts(verdict, None).is_none()
    {
        return Err(ApiError::BadRequest(format!(
            "verdict is {verdict:?}; allowed is accepted, malformed, rejected"
        )));
    }
    let page = cursor_page(filter.limit, filter.cursor)?;
    let filter = EventFilter {
        namespace: filter.namespace,
        kind: filter.kind,
        source: filter.source,
        event_type: filter.event_type,
        verdict: filter.verdict,
    };
    let events = api.app.store.events(&filter, page).await?;
    Ok(Json(Items::new(events, page, |event| event.id.uuid())))
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    event: Event,
    tasks: Vec<Task>,
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
    let (body_encoding, body) = readable(&event.body);
    Ok(Json(Shown { body_size: event.body.len(), event, tasks, body_encoding, body }))
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
pub(super) struct NewEvent {
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
    let judged = api.judge.judge(event(new, now), Arc::clone(&set), Candidates::Events).await;
    let event_id = judged.event.id;
    let planned = judged.tasks.iter().map(|task| task.id).collect();
    let ingest = Ingest { event: judged.event, dedupe, tasks: judged.tasks };
    match api.app.ingester.submit(ingest).await? {
        Ingested::Stored => Ok(Receipt::new(event_id, planned, false)),
        Ingested::Duplicate { event_id, task_ids } => Ok(Receipt::new(event_id, task_ids, true)),
    }
}

fn event(new: NewEvent, now: Timestamp) -> Event {
    let data = new.data.map_or_else(Bytes::new, |data| Bytes::from(String::from(Box::<str>::from(data))));
    Event {
        id: EventId::at(now),
        namespace: new.namespace,
        kind: SourceKind::Api,
        source: new.source.unwrap_or_else(|| "/api".to_owned()),
        event_type: new.event_type,
        subject: new.subject,
        time: now,
        received_at: now,
        content_type: Some("application/json".to_owned()),
        headers: Vec::new(),
        query: None,
        verdict: Verdict::Accepted,
        secret: None,
        replay_of: None,
        decisions: Vec::new(),
        body: data,
    }
}

fn dedupe(
    api: &Api,
    headers: &HeaderMap,
    namespace: &Namespace,
    now: Timestamp,
) -> Result<Option<DedupeKey>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let allowed = |key: &&str| (1..=MAX_KEY).contains(&key.len());
    let key = key.to_str().ok().filter(allowed).ok_or_else(|| {
        ApiError::BadRequest(format!("Idempotency-Key must have 1 to {MAX_KEY} ASCII characters"))
    })?;
    let expires_at = now.checked_add(api.app.config.hooks.dedupe_for).unwrap_or(Timestamp::MAX);
    Ok(Some(DedupeKey { scope: format!("/api/events/{namespace}"), key: key.to_owned(), expires_at }))
}
