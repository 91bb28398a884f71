//! Answers to what a provider asks before it delivers, and pings. Neither ever becomes a task.

use bytes::Bytes;
use hetuflow_core::{
    event::{Event, Verdict},
    trigger::hook_source,
};
use hetuflow_signature::{Answer, Verified};
use hetuflow_store::{Ingest, Ingested};
use http::StatusCode;

use axum::response::{IntoResponse, Response};

use super::{Hooks, delivery::Delivery, receive::Receipt, verify::Signers};
use crate::{api::error::ApiError, triggers::Route};

/// The answer of the scheme. A secret that came with the request is kept first, or there is no answer.
pub(super) async fn answer(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: Bytes,
    answer: Answer,
) -> Result<Response, ApiError> {
    let hook = hook_source(&delivery.namespace, &delivery.name);
    if let Some(secret) = &answer.secret {
        if let Err(why) = route.keep_secret(secret.expose().to_vec()).await {
            tracing::warn!(hook.source = hook, why, "the secret of a handshake cannot be kept");
            return Err(ApiError::NotVerified);
        }
        hooks.app.triggers.look_again();
    }
    hooks.app.metrics.hooks_handshakes.inc();
    tracing::info!(hook.source = hook, about = answer.about, "handshake answered");
    if let Some(url) = &answer.visit {
        // Recorded, so that the owner finds it: hetuflow opens no address that a sender names.
        tracing::warn!(hook.source = hook, url, "open this address to confirm the subscription");
        let reason = format!("{}: open {url} to confirm it", answer.about);
        record(hooks, delivery.event(route, body, "handshake".to_owned()), reason).await?;
    }
    response(answer)
}

/// A signed ping is recorded like a delivery. One that is not signed is a stranger's word: a few of them are kept.
pub(super) async fn ping(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: Bytes,
    event_type: Option<String>,
    verified: Option<Verified>,
    signers: &Signers,
) -> Result<Response, ApiError> {
    hooks.app.metrics.hooks_handshakes.inc();
    let event_type = event_type.unwrap_or_else(|| "ping".to_owned());
    let reason = match &verified {
        Some(_) => "a test of the provider, signed",
        None if hooks.samples.take(&delivery.key) => "a test of the provider, not signed",
        None => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let mut event = delivery.event(route, body, event_type);
    event.secret = verified.and_then(|verified| signers.of(route, &verified));
    record(hooks, event, reason.to_owned()).await
}

async fn record(hooks: &Hooks, mut event: Event, reason: String) -> Result<Response, ApiError> {
    event.verdict = Verdict::Ping { reason };
    let id = event.id;
    let receipt = match hooks.app.ingester.submit(Ingest { event, dedupe: None, tasks: Vec::new() }).await? {
        Ingested::Stored => Receipt::new(id, Vec::new(), false),
        Ingested::Duplicate { event_id, task_ids, .. } => Receipt::new(event_id, task_ids, true),
    };
    Ok(receipt.into_response())
}

fn response(answer: Answer) -> Result<Response, ApiError> {
    let broken = |error: http::Error| ApiError::Internal(format!("the answer to a handshake: {error}"));
    let mut response = Response::builder().status(answer.status).header("x-content-type-options", "nosniff");
    for (name, value) in answer.headers.iter().filter(|(name, _)| name != "x-content-type-options") {
        response = response.header(name, value);
    }
    response.body(answer.body.into()).map_err(broken)
}
