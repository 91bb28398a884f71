//! Which events are meant: the same fields in the query of a list and in the `filter` of a body. What stands in columns
//! is asked of the store; what stands in headers and bodies is a condition, as triggers have them.

use std::{net::IpAddr, sync::Arc};

use hetuflow_core::{
    condition::Condition,
    event::{DecisionOutcome, SourceKind, Verdict},
    id::{EventId, Namespace},
    matching::ROOTS,
};
use hetuflow_store::{ByTrigger, EventFilter};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    api::{ApiError, input::parsed},
    triggers::TriggerSet,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Filter {
    pub(super) namespace: Option<Namespace>,
    kind: Option<SourceKind>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    verdict: Option<String>,
    /// One that was asked about the event, or would have been, had it been accepted.
    trigger: Option<String>,
    /// What that trigger decided.
    decision: Option<DecisionOutcome>,
    #[serde(default, deserialize_with = "parsed")]
    sender: Option<IpAddr>,
    /// As an event shows it: `env DEPLOY_SECRET`.
    secret: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    replay_of: Option<EventId>,
    #[serde(default, deserialize_with = "parsed")]
    since: Option<Timestamp>,
    #[serde(default, deserialize_with = "parsed")]
    pub(super) until: Option<Timestamp>,
    /// `NAME` or `NAME=VALUE`.
    header: Option<String>,
    /// `PATH` or `PATH=VALUE`, such as `body.ref=refs/heads/main`.
    json: Option<String>,
    /// A condition, as a trigger's `when`.
    when: Option<String>,
    /// Of a list.
    pub(super) limit: Option<u32>,
    pub(super) cursor: Option<Uuid>,
}

/// A filter that was read: what is wrong with it is said before anything is looked at.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) filter: EventFilter,
    /// All must hold.
    pub(super) conditions: Arc<[Condition]>,
}

impl Filter {
    /// Nothing says which events are meant.
    pub(super) fn is_empty(&self) -> bool {
        let columns = self.kind.is_none() && self.source.is_none() && self.event_type.is_none();
        let more = self.verdict.is_none() && self.trigger.is_none() && self.replay_of.is_none();
        let more = more && self.sender.is_none() && self.secret.is_none();
        let contents = self.header.is_none() && self.json.is_none() && self.when.is_none();
        columns && more && contents && self.since.is_none()
    }

    pub(super) fn read(self, set: &TriggerSet) -> Result<Search, ApiError> {
        if let Some(verdict) = &self.verdict
            && Verdict::from_parts(verdict, None).is_none()
        {
            let message =
                format!("verdict is {verdict:?}; allowed is accepted, malformed, rejected, unverified, ping");
            return Err(ApiError::BadRequest(message));
        }
        let conditions = self.conditions()?;
        let trigger = by_trigger(self.trigger, self.decision, self.namespace.as_ref(), set)?;
        let filter = EventFilter {
            namespace: self.namespace,
            kind: self.kind,
            source: self.source,
            event_type: self.event_type,
            verdict: self.verdict,
            trigger,
            sender: self.sender.map(|sender| sender.to_canonical()),
            secret: self.secret,
            replay_of: self.replay_of,
            since: self.since,
            until: self.until,
        };
        Ok(Search { filter, conditions })
    }

    fn conditions(&self) -> Result<Arc<[Condition]>, ApiError> {
        let header = self.header.as_deref().map(|text| ("header", header(text)));
        let json = self.json.as_deref().map(|text| ("json", field(text)));
        let when = self.when.clone().map(|text| ("when", text));
        let compile = |(name, source): (&str, String)| {
            Condition::compile(&source).map_err(|error| {
                let at = error.offset.map(|at| format!(" (at byte {at} of {source:?})")).unwrap_or_default();
                ApiError::BadRequest(format!("{name}: {error}{at}"))
            })
        };
        [header, json, when].into_iter().flatten().map(compile).collect()
    }
}

fn by_trigger(
    name: Option<String>,
    outcome: Option<DecisionOutcome>,
    namespace: Option<&Namespace>,
    set: &TriggerSet,
) -> Result<Option<ByTrigger>, ApiError> {
    let Some(name) = name else {
        return match outcome {
            None => Ok(None),
            Some(_) => {
                Err(ApiError::BadRequest("decision says what a trigger decided: name the trigger".to_owned()))
            }
        };
    };
    let key = format!("{}/{name}", namespace.cloned().unwrap_or_default());
    let hooks = set
        .live
        .get(&key)
        .into_iter()
        .flat_map(|live| live.trigger.webhooks.iter().map(|hook| live.trigger.source_of(hook)));
    Ok(Some(ByTrigger { sources: hooks.collect(), outcome, name }))
}

fn header(text: &str) -> String {
    let (name, value) = split(text);
    let name = Value::from(name.trim().to_ascii_lowercase());
    match value {
        Some(value) => format!("headers[{name}] == {}", Value::from(value.trim())),
        None => format!("{name} in headers"),
    }
}

/// `$.ref`, `.ref` and `ref` are all `body.ref`. A value that looks like a number may be a text, too.
fn field(text: &str) -> String {
    let (path, value) = split(text);
    let path = path.trim().trim_start_matches('$').trim_start_matches('.');
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let path = if ROOTS.contains(&&path[..end]) { path.to_owned() } else { below_body(path) };
    let Some(value) = value.map(str::trim) else { return format!("has({path})") };
    let text = format!("{path} == {}", Value::from(value));
    match serde_json::from_str::<Value>(value) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => {
            format!("{path} == {plain} || {text}")
        }
        Ok(_) | Err(_) => text,
    }
}

fn below_body(path: &str) -> String {
    if path.starts_with('[') || path.is_empty() { format!("body{path}") } else { format!("body.{path}") }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_headers_become_conditions() {
        let check = |source: String, expected: &str| {
            assert_eq!(source, expected);
            Condition::compile(&source).expect("it compiles");
        };
        check(field("body.ref=refs/heads/main"), r#"body.ref == "refs/heads/main""#);
        check(field("ref = main"), r#"body.ref == "main""#);
        check(field("$.commits[0].id=7"), r#"body.commits[0].id == 7 || body.commits[0].id == "7""#);
        check(field("$[0]=x"), r#"body[0] == "x""#);
        check(field("query.env=prod"), r#"query.env == "prod""#);
        check(field("pull_request.draft"), "has(body.pull_request.draft)");
        check(field("a=\"; b"), r#"body.a == "\"; b""#);
        check(header("X-GitHub-Event=push"), r#"headers["x-github-event"] == "push""#);
        check(header("x-request-id"), r#""x-request-id" in headers"#);
    }
}
