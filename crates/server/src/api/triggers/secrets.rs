//! When a secret was last of use, so that an old one can be dropped safely. The journal knows; one answer looks at a part
//! of it and says how far that goes.

use hetuflow_core::{
    event::SourceKind,
    id::EventId,
    trigger::{SecretRef, WebhookSource},
};
use hetuflow_store::{EventFilter, Order, StoredTrigger, Walk};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    AppState,
    api::ApiError,
    secrets::describe,
    triggers::{Live, TriggerSet, route_key},
};

/// Events that are looked at for one secret, the newest first.
const LOOK_AT: u32 = 20_000;
/// Of those that were signed with it. A replay among them keeps the word of its original, and is no use of the secret.
const MATCHES: u32 = 200;

/// What is known of one secret of one hook.
#[derive(Debug, Serialize)]
pub(super) struct SecretUse {
    /// `/hooks/deploy-site`
    hook: String,
    /// Where it is kept, in words: `env DEPLOY_SECRET`.
    secret: String,
    /// It is there, and the scheme can use it.
    usable: bool,
    /// The last delivery that was signed with it.
    #[serde(flatten)]
    last: Option<LastUse>,
    /// Events before this one were not looked at; null where all were.
    looked_back_to: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct LastUse {
    last_event_id: EventId,
    last_matched_at: Timestamp,
}

pub(super) async fn uses(
    app: &AppState,
    set: &TriggerSet,
    stored: &StoredTrigger,
) -> Result<Vec<SecretUse>, ApiError> {
    let mut uses = Vec::new();
    let Some(live) = set.live.get(&format!("{}/{}", stored.namespace, stored.name)) else { return Ok(uses) };
    for hook in &live.trigger.webhooks {
        for secret in &hook.secrets {
            uses.push(last_use(app, set, live, hook, secret).await?);
        }
    }
    Ok(uses)
}

async fn last_use(
    app: &AppState,
    set: &TriggerSet,
    live: &Live,
    hook: &WebhookSource,
    secret: &SecretRef,
) -> Result<SecretUse, ApiError> {
    let (source, secret) = (live.trigger.source_of(hook), describe(secret));
    let route = set.routes.get(&route_key(live.trigger.namespace.as_str(), &hook.path));
    let filter = EventFilter {
        namespace: Some(live.trigger.namespace.clone()),
        kind: Some(SourceKind::Webhook),
        source: Some(source.clone()),
        secret: Some(secret.clone()),
        ..EventFilter::default()
    };
    let walk = Walk { order: Order::NewestFirst, from: None, limit: MATCHES, look_at: LOOK_AT };
    let walked = app.store.walk_events(&filter, walk).await?;
    let last = walked
        .events
        .iter()
        .find(|event| event.replay_of.is_none())
        .map(|event| LastUse { last_event_id: event.id, last_matched_at: event.received_at });
    let unseen = walked.next.filter(|_| last.is_none());
    Ok(SecretUse {
        hook: source,
        usable: route.is_some_and(|route| route.uses(&secret)),
        secret,
        last,
        looked_back_to: unseen.and_then(|id| EventId::from_uuid(id).time()),
    })
}
