//! Starting a trigger by hand: an event of its own type, which `[on.api]` asks for.

use axum::extract::{Path, State};
use bytes::Bytes;
use hetuflow_core::trigger::EventSource;
use http::HeaderMap;
use serde_json::value::RawValue;

use super::{In, find, in_force};
use crate::{
    api::{
        Api, ApiError,
        events::{NewEvent, send},
        input::{Input, Params},
    },
    hooks::Receipt,
};

/// The body is the event's data, as JSON; `Idempotency-Key` makes a repetition safe.
pub(crate) async fn start(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(place): Params<In>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Receipt, ApiError> {
    let set = in_force(&api).await?;
    let stored = find(&set, &place.namespace, &name)?;
    let live = set.live.get(&format!("{}/{}", stored.namespace, stored.name));
    let by_hand = live.map(|live| (EventSource::by_hand(&live.trigger.name), &live.trigger.events));
    let event_type =
        by_hand.filter(|(wanted, events)| events.iter().any(|source| source.event_type == *wanted));
    let Some((event_type, _)) = event_type else {
        let reason = format!("{name:?} cannot be started by hand: it has no [on.api], or is not in force");
        return Err(ApiError::Conflict(reason));
    };
    let data = if body.trim_ascii().is_empty() { None } else { Some(read(&body)?) };
    let source = format!("/triggers/{}/{name}", stored.namespace);
    let event = NewEvent::of(event_type, stored.namespace, source, data);
    send(State(api), headers, Input(event)).await
}

fn read(body: &Bytes) -> Result<Box<RawValue>, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::BadRequest(format!("the body is not JSON: {error}")))
}
