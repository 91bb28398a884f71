//! The form of a scheme file. Names are still texts here; `check` knows which exist.
//!
//! `schemes/standard-webhooks.toml` uses nearly all of it.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::SchemeError;
use crate::vector::Row;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(super) message: String,
    pub(super) signature: Vec<SignatureTable>,
    pub(super) timestamp: Option<TimestampTable>,
    #[serde(default)]
    pub(super) delivery: DeliveryTable,
    pub(super) dedupe: DedupeTable,
    pub(super) sample: SampleTable,
    #[serde(default)]
    pub(super) options: BTreeMap<String, OptionTable>,
    #[serde(default, rename = "vector")]
    pub(crate) vectors: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureTable {
    pub(super) header: Option<String>,
    pub(super) separator: Option<String>,
    #[serde(default)]
    pub(super) prefix: String,
    pub(super) algorithm: String,
    /// Allows an algorithm that is kept only for old senders.
    #[serde(default)]
    pub(super) legacy: bool,
    pub(super) encoding: String,
    #[serde(default)]
    pub(super) key: KeyTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
    pub(super) encoding: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimestampTable {
    pub(super) header: Option<String>,
    pub(super) unit: Option<String>,
    #[serde(default, with = "hetuflow_core::duration::option")]
    pub(super) tolerance: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryTable {
    pub(super) id: Option<PlaceTable>,
    pub(super) event_type: Option<PlaceTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceTable {
    pub(super) header: Option<String>,
    pub(super) body: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DedupeTable {
    pub(super) by: String,
    /// Why that is right for this provider: both too much and too little lose something.
    pub(super) because: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SampleTable {
    pub(super) event_type: String,
    pub(super) body: String,
}

/// What a trigger may set in this file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionTable {
    /// The place that it sets: keys and numbers of list items, joined by dots.
    pub(super) sets: String,
    #[serde(default)]
    pub(super) kind: OptionKind,
    #[serde(default)]
    pub(super) required: bool,
    /// For messages: `the header that holds the signature`.
    pub(super) about: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OptionKind {
    #[default]
    Text,
    Duration,
    /// `true` or `false`.
    Switch,
}

impl File {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, SchemeError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            SchemeError(format!("scheme {name:?}, line {line}: {}", error.message()))
        })
    }
}
