//! The form of a scheme file. Names are still texts here; `check` knows which exist.
//!
//! `docs/signatures.md` explains every key; `schemes/standard-webhooks.toml` is a good one to read first.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::{Map, Value};

use super::SchemeError;
use crate::vector::Row;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Whose deliveries these are, in a few words.
    pub(super) about: String,
    /// Where the rule is documented.
    #[serde(default)]
    pub(super) docs: String,
    pub(super) message: Option<String>,
    /// A list in the body whose items are each signed by themselves.
    pub(super) each: Option<String>,
    #[serde(default)]
    pub(super) url_variants: Vec<String>,
    /// Why a request passes although its body, or a part of it, is not signed.
    pub(super) unsigned_body: Option<String>,
    pub(super) signature: Vec<SignatureTable>,
    pub(super) timestamp: Option<TimestampTable>,
    #[serde(default, rename = "hash")]
    pub(super) hashes: Vec<HashTable>,
    #[serde(default)]
    pub(super) require: Vec<ConditionTable>,
    #[serde(default)]
    pub(super) delivery: DeliveryTable,
    pub(super) dedupe: DedupeTable,
    #[serde(default, rename = "handshake")]
    pub(super) handshakes: Vec<HandshakeTable>,
    #[serde(default, rename = "ping")]
    pub(super) pings: Vec<PingTable>,
    /// Texts for `{value:NAME}`.
    #[serde(default)]
    pub(super) values: BTreeMap<String, String>,
    pub(super) sample: SampleTable,
    #[serde(default)]
    pub(super) options: BTreeMap<String, OptionTable>,
    #[serde(default, rename = "vector")]
    pub(crate) vectors: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureTable {
    #[serde(default)]
    pub(super) when: Vec<ConditionTable>,
    pub(super) header: Option<OneOrMore>,
    pub(super) query: Option<String>,
    pub(super) form: Option<String>,
    pub(super) body: Option<String>,
    pub(super) separator: Option<String>,
    #[serde(default)]
    pub(super) prefix: String,
    pub(super) algorithm: String,
    /// Allows an algorithm that is kept only for old senders.
    #[serde(default)]
    pub(super) legacy: bool,
    pub(super) encoding: Option<String>,
    #[serde(default)]
    pub(super) key: KeyTable,
    /// What this one covers, where signatures differ in it.
    pub(super) message: Option<String>,
    pub(super) jwt: Option<JwtTable>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
    pub(super) encoding: Option<String>,
    pub(super) fetch: Option<FetchTable>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FetchTable {
    pub(super) url: Option<String>,
    pub(super) header: Option<String>,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    #[serde(default)]
    pub(super) path: String,
    /// What is found there, for messages: `the PEM of its certificate`.
    pub(super) gives: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtTable {
    pub(super) algorithms: Vec<String>,
    #[serde(default)]
    pub(super) claims: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimestampTable {
    pub(super) header: Option<OneOrMore>,
    pub(super) query: Option<String>,
    pub(super) form: Option<String>,
    pub(super) body: Option<String>,
    pub(super) claim: Option<String>,
    pub(super) separator: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) unit: Option<String>,
    #[serde(default, with = "hetuflow_core::duration::option")]
    pub(super) tolerance: Option<Duration>,
    #[serde(default, with = "hetuflow_core::duration::option")]
    pub(super) ahead: Option<Duration>,
    #[serde(default)]
    pub(super) optional: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HashTable {
    #[serde(default)]
    pub(super) when: Vec<ConditionTable>,
    pub(super) of: Option<String>,
    pub(super) algorithm: String,
    pub(super) encoding: String,
    pub(super) equals: PlaceTable,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceTable {
    pub(super) header: Option<String>,
    pub(super) query: Option<String>,
    pub(super) form: Option<String>,
    pub(super) body: Option<String>,
    pub(super) claim: Option<String>,
    pub(super) all: Option<Vec<PlaceTable>>,
    pub(super) separator: Option<String>,
    pub(super) prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionTable {
    pub(super) method: Option<OneOrMore>,
    pub(super) path: Option<OneOrMore>,
    pub(super) header: Option<String>,
    pub(super) query: Option<String>,
    pub(super) form: Option<String>,
    pub(super) body: Option<String>,
    pub(super) claim: Option<String>,
    pub(super) is: Option<OneOrMore>,
    pub(super) starts: Option<String>,
    pub(super) present: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryTable {
    pub(super) id: Option<Places>,
    pub(super) event_type: Option<Places>,
}

/// One place or a list of them. Read by hand, so that a wrong key inside is told as such.
#[derive(Debug, Clone)]
pub(super) struct Places(pub(super) Vec<PlaceTable>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;
        impl<'de> Visitor<'de> for OneOrList {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place such as { header = \"X-Id\" }, or a list of places")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Places, A::Error> {
                PlaceTable::deserialize(MapAccessDeserializer::new(map)).map(|place| Places(vec![place]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Places, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Places)
            }
        }
        deserializer.deserialize_any(OneOrList)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DedupeTable {
    pub(super) by: OneOrMore,
    /// Why that is right for this provider: both too much and too little lose something.
    pub(super) because: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandshakeTable {
    /// When the provider asks, in a few words.
    pub(super) about: String,
    pub(super) method: String,
    #[serde(default)]
    pub(super) when: Vec<ConditionTable>,
    /// Answered only where the request itself is signed.
    #[serde(default)]
    pub(super) signed: bool,
    /// Answered only where this is one of the secrets.
    pub(super) token: Option<PlaceTable>,
    /// Holds the secret of all deliveries to come.
    pub(super) sets_secret: Option<PlaceTable>,
    pub(super) visit: Option<FetchTable>,
    pub(super) mac: Option<MacTable>,
    pub(super) answer: AnswerTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MacTable {
    pub(super) algorithm: String,
    pub(super) of: String,
    pub(super) encoding: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerTable {
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    /// An object of texts, in this order.
    #[serde(default)]
    pub(super) json: Vec<MemberTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberTable {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PingTable {
    pub(super) when: Vec<ConditionTable>,
    /// Whether the provider sends it without a signature.
    #[serde(default)]
    pub(super) unsigned: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SampleTable {
    #[serde(default)]
    pub(super) event_type: String,
    pub(super) body: String,
}

/// What a trigger may set in this file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionTable {
    /// The place that it sets: keys and numbers of list items, joined by dots.
    pub(super) sets: String,
    /// Other places, and what they become when this option is given.
    #[serde(default)]
    pub(super) also: BTreeMap<String, toml::Value>,
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

impl OneOrMore {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

impl PlaceTable {
    pub(super) fn is_empty(&self) -> bool {
        let named = [&self.header, &self.query, &self.form, &self.body, &self.claim];
        named.into_iter().all(Option::is_none) && self.all.is_none()
    }
}
