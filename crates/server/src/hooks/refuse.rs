//! What becomes of a delivery that is not authentic: it is refused, or, at a hook that only observes, taken and not acted upon.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hetuflow_core::{event::Verdict, trigger::hook_source};
use hetuflow_store::Ingest;

use super::{Hooks, Receipt, delivery::Delivery};
use crate::{api::error::ApiError, triggers::Route};

/// The body of a refused delivery is kept with its sample up to this size.
const MAX_SAMPLE: usize = 64 * 1024;

/// The sender learns nothing but 401; the reason goes to the log and, for a few, into an event.
pub(super) fn reject(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: Bytes,
    reason: String,
) -> ApiError {
    let source = hook_source(&delivery.namespace, &delivery.name);
    if hooks.samples.take(&delivery.key) {
        tracing::warn!(hook.source = source, reason, "delivery refused");
        let body = if body.len() <= MAX_SAMPLE { body } else { Bytes::new() };
        let mut event = delivery.event(route, body, "webhook".to_owned());
        event.verdict = Verdict::Rejected { reason };
        let ingester = hooks.app.ingester.clone();
        // Not awaited: the answer takes as long as without a sample. Bounded by the samples.
        tokio::spawn(async move {
            let sample = Ingest { event, dedupe: None, tasks: Vec::new() };
            // A sample that cannot be stored is lost, as most refused deliveries are.
            let _ = ingester.submit(sample).await;
        });
    }
    ApiError::NotVerified
}

/// Taken whole, and answered like any other delivery; it starts nothing, is not looked into, and takes no dedupe key from
/// the one that would be authentic.
pub(super) async fn observe(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: Bytes,
    reason: String,
) -> Result<Response, ApiError> {
    if !hooks.observed.take(&delivery.key) {
        return Err(ApiError::TooMany { retry_after: 60 });
    }
    tracing::warn!(
        hook.source = hook_source(&delivery.namespace, &delivery.name),
        reason,
        "unverified delivery taken"
    );
    let mut event = delivery.event(route, body, "webhook".to_owned());
    event.verdict = Verdict::Unverified { reason };
    event.status_token = None;
    let id = event.id;
    hooks.app.ingester.submit(Ingest { event, dedupe: None, tasks: Vec::new() }).await?;
    hooks.app.metrics.hooks_unverified.inc();
    Ok(Receipt::new(id, Vec::new(), false).into_response())
}
