//! A search in the journal. However much lies there, one request looks at a part of it: the answer's cursor says how far
//! it came, also when it found nothing.

use std::{sync::Arc, time::Duration};

use hetuflow_core::{
    condition::{Condition, Judgement},
    event::{Event, SourceKind, Verdict},
    matching::{Body, Facts, Wanted},
};
use hetuflow_store::{EventFilter, Order, StoreError, Walk, Walked};
use tokio::time::Instant;
use uuid::Uuid;

use super::filter::Search;
use crate::{AppState, api::ApiError, intake::SMALL};

/// Events that one request looks at, at most.
const LOOK_AT: u32 = 20_000;
/// Those of them that are read whole.
const READ: u32 = 2_000;
/// Bytes of the bodies of those.
const READ_BYTES: usize = 64 * 1024 * 1024;
/// The time after which it looks at no more.
const WITHIN: Duration = Duration::from_secs(2);
/// Rows of one statement.
const ROWS: usize = 500;

/// What is left of what a request may look at.
struct Budget {
    look_at: u32,
    read: u32,
    bytes: usize,
    until: Instant,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.look_at == 0 || self.read == 0 || self.bytes == 0 || Instant::now() >= self.until
    }
}

impl Search {
    /// Up to `limit` events, bodies left out, beyond `from`.
    pub(super) async fn run(
        &self,
        app: &AppState,
        order: Order,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Walked, ApiError> {
        let mut budget =
            Budget { look_at: LOOK_AT, read: READ, bytes: READ_BYTES, until: Instant::now() + WITHIN };
        let mut found = Walked { events: Vec::new(), next: from };
        loop {
            let rows = u32::try_from((limit - found.events.len()).min(ROWS)).unwrap_or(u32::MAX);
            let walk = Walk { order, from: found.next, limit: rows, look_at: budget.look_at };
            let walked = app.store.walk_events(&self.filter, walk).await?;
            let seen = u32::try_from(walked.events.len()).unwrap_or(rows);
            for event in walked.events {
                found.next = Some(event.id.uuid());
                if let Some(event) = self.admit(app, event, &mut budget).await? {
                    found.events.push(event);
                }
                if found.events.len() == limit || (!self.conditions.is_empty() && budget.is_spent()) {
                    return Ok(found);
                }
            }
            found.next = walked.next;
            // A stretch that ends before it is full was looked at to its end.
            budget.look_at -= if seen < rows { budget.look_at } else { seen.min(budget.look_at) };
            if found.next.is_none() || budget.is_spent() {
                return Ok(found);
            }
        }
    }

    /// The event, if all conditions hold.
    async fn admit(
        &self,
        app: &AppState,
        event: Event,
        budget: &mut Budget,
    ) -> Result<Option<Event>, ApiError> {
        if self.conditions.is_empty() {
            return Ok(Some(event));
        }
        budget.read -= 1;
        let looks_at_body = self.conditions.iter().any(|when| when.wants("body").is_some());
        let whole = if looks_at_body {
            match app.store.event(event.id).await {
                // Retention was here in between.
                Err(StoreError::NotFound) => return Ok(None),
                whole => whole?,
            }
        } else {
            event.clone()
        };
        budget.bytes = budget.bytes.saturating_sub(whole.body.len());
        Ok(hold(Arc::clone(&self.conditions), whole).await?.then_some(event))
    }
}

/// What may take long goes to a thread of its own.
async fn hold(conditions: Arc<[Condition]>, event: Event) -> Result<bool, ApiError> {
    if event.body.len() <= SMALL && !conditions.iter().any(Condition::may_loop) {
        return Ok(all_hold(&conditions, &event));
    }
    let judged = tokio::task::spawn_blocking(move || all_hold(&conditions, &event)).await;
    judged.map_err(|error| ApiError::Internal(format!("a search broke: {error}")))
}

/// What is malformed has no body to look into; what cannot be judged does not hold.
fn all_hold(conditions: &[Condition], event: &Event) -> bool {
    let mut wanted = Wanted::default();
    for body in conditions.iter().filter_map(|when| when.wants("body")) {
        wanted.merge(body);
    }
    let body = Body::parse_for(&wanted, event.content_type.as_deref(), &event.body).unwrap_or(Body::Empty);
    let file = match event.kind {
        SourceKind::File => serde_json::from_slice(&event.body).ok(),
        SourceKind::Webhook | SourceKind::Schedule | SourceKind::Api | SourceKind::Internal => None,
    };
    let facts = Facts { event, body: &body, file: file.as_ref() };
    conditions.iter().all(|when| when.judge(&facts).judgement == Judgement::Yes)
}

/// Whether it can be repeated by asking for many: not what is a repetition itself, or would start nothing.
pub(super) fn is_repeatable(event: &Event, filter: &EventFilter) -> bool {
    let starts_something = match event.verdict {
        Verdict::Accepted | Verdict::Malformed { .. } => true,
        Verdict::Rejected { .. } | Verdict::Ping { .. } => false,
        // Whoever wants these says so.
        Verdict::Unverified { .. } => filter.verdict.as_deref() == Some(event.verdict.name()),
    };
    starts_something && event.replay_of.is_none() && event.kind != SourceKind::Schedule
}
