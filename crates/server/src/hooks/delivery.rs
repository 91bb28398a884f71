//! A delivery whose hook is known, and the event that it becomes.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use hetuflow_core::{
    event::{DedupeKey, Event, SourceKind},
    id::{Namespace, StatusToken},
    trigger::{SenderSees, hook_source},
};
use http::{header, request::Parts, uri::PathAndQuery};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Hooks, head};
use crate::triggers::{Route, TriggerSet};

/// A longer key is kept as its digest.
const MAX_KEY: usize = 200;

pub(super) struct Delivery {
    pub(super) namespace: Namespace,
    pub(super) name: String,
    /// Of the route in `set`.
    pub(super) key: String,
    pub(super) set: Arc<TriggerSet>,
    pub(super) parts: Parts,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) sender: IpAddr,
    pub(super) now: Timestamp,
}

impl Delivery {
    /// Path and query, as received; the whole address, as the sender knows it, where that is signed.
    pub(super) fn url(&self, route: &Route, hooks: &Hooks) -> String {
        let local = self.parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
        let public = hooks.app.config.hooks.public_url.trim_end_matches('/');
        if route.scheme.signs_url() { format!("{public}{local}") } else { local.to_owned() }
    }

    pub(super) fn event(&self, route: &Route, body: Bytes, event_type: String) -> Event {
        let content_type = self.parts.headers.get(header::CONTENT_TYPE);
        Event {
            content_type: content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            headers: head::stored(&self.headers, route),
            query: self.parts.uri.query().map(|query| head::stored_query(query, route)),
            sender: Some(self.sender),
            status_token: (route.sender_sees > SenderSees::Nothing).then(|| StatusToken::at(self.now)),
            body,
            ..Event::new(
                SourceKind::Webhook,
                self.namespace.clone(),
                hook_source(&self.namespace, &self.name),
                event_type,
                self.now,
            )
        }
    }

    pub(super) fn dedupe(&self, hooks: &Hooks, key: &str, second: Option<&str>) -> DedupeKey {
        let expires_at = self.now.checked_add(hooks.app.config.hooks.dedupe_for).unwrap_or(Timestamp::MAX);
        let key = DedupeKey::new(format!("/hooks/{}", self.key), bounded(key), expires_at);
        DedupeKey { second: second.map(bounded), ..key }
    }
}

fn bounded(key: &str) -> String {
    use std::fmt::Write;
    if key.len() <= MAX_KEY {
        return key.to_owned();
    }
    Sha256::digest(key).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_key_is_kept_as_its_digest() {
        let longest = "k".repeat(MAX_KEY);
        assert_eq!(bounded(&longest), longest);
        let digest = bounded(&format!("{longest}k"));
        assert_eq!((&digest[..7], digest.len()), ("sha256:", 71));
    }
}
