//! A scheme: how one provider signs its deliveries, as its file in `schemes/` says.
//!
//! `file` is the form of such a file, `options` what a trigger may set in it, `check` turns both into
//! a [`Scheme`], which cannot exist unchecked. A provider is added by a file and one line of [`BUILTIN`].

mod check;
mod file;
mod options;

use std::time::Duration;

use hetuflow_core::suggest::among;
use serde_json::{Map, Value};

use crate::{algorithm::Algorithm, encoding::Encoding, message::Message, place::Place};

pub(crate) use file::File;

/// Sorted by name.
pub(crate) const BUILTIN: &[(&str, &str)] = &[
    ("github", include_str!("../schemes/github.toml")),
    ("hmac", include_str!("../schemes/hmac.toml")),
    ("standard-webhooks", include_str!("../schemes/standard-webhooks.toml")),
];

/// A provider's rule, parsed and checked.
#[derive(Debug, Clone)]
pub struct Scheme {
    name: String,
    pub(crate) message: Message,
    /// At least one. More than one where a provider has several kinds of key.
    pub(crate) signatures: Vec<SignatureRule>,
    pub(crate) timestamp: Option<TimestampRule>,
    pub(crate) delivery: DeliveryRule,
    sample: Sample,
}

/// Where signatures stand, how they are written, and the key that they are made with.
#[derive(Debug, Clone)]
pub(crate) struct SignatureRule {
    /// In lower case, as every header of a checked scheme.
    pub(crate) header: String,
    /// Between several signatures in one header.
    pub(crate) separator: Option<String>,
    /// What a signature starts with; one that does not is somebody else's.
    pub(crate) prefix: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: Encoding,
    /// What a secret of this rule starts with; not part of the key.
    pub(crate) key_prefixes: Vec<String>,
    /// `None`: the secret's own bytes are the key.
    pub(crate) key_encoding: Option<Encoding>,
}

#[derive(Debug, Clone)]
pub(crate) struct TimestampRule {
    pub(crate) header: String,
    pub(crate) unit: Unit,
    /// Into the past and into the future.
    pub(crate) tolerance: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

/// How a delivery is named, and recognised when it comes again.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryRule {
    pub(crate) id: Option<Place>,
    pub(crate) event_type: Option<Place>,
    pub(crate) dedupe: Dedupe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dedupe {
    /// By the provider's delivery id.
    DeliveryId,
    /// By the bytes that the signature covers.
    Message,
    /// Every delivery is a new event.
    Never,
}

#[derive(Debug, Clone)]
struct Sample {
    event_type: String,
    body: String,
}

/// Says in one sentence what is wrong and what is allowed. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemeError(pub String);

impl Scheme {
    /// The names of the schemes that are built in, sorted.
    pub fn names() -> Vec<&'static str> {
        BUILTIN.iter().map(|(name, _)| *name).collect()
    }

    /// A built-in scheme with the options of a trigger (`hmac` needs some, the others take none).
    /// The error says in one sentence what is allowed.
    pub fn builtin(name: &str, options: &Map<String, Value>) -> Result<Self, SchemeError> {
        let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            SchemeError(format!("there is no scheme {name:?} ({})", among(name, &Self::names())))
        })?;
        Self::with_options(name, text, options)
    }

    /// A scheme file of a user.
    pub fn parse(name: &str, text: &str) -> Result<Self, SchemeError> {
        Self::with_options(name, text, &Map::new())
    }

    /// A scheme file, with the values that a trigger gives to the options that it offers.
    pub fn with_options(name: &str, text: &str, options: &Map<String, Value>) -> Result<Self, SchemeError> {
        options::set(name, text, options)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Headers (lower case) whose values must not be stored in clear.
    pub fn secret_headers(&self) -> Vec<String> {
        let mut headers: Vec<String> = self.signatures.iter().map(|rule| rule.header.clone()).collect();
        headers.sort();
        headers.dedup();
        headers
    }

    /// Headers (lower case) that must be there, once each, before the body is worth reading.
    pub fn required_headers(&self) -> Vec<String> {
        let mut headers = self.secret_headers();
        headers.extend(self.timestamp.iter().map(|rule| rule.header.clone()));
        headers.extend(self.signed_id_header().map(str::to_owned));
        headers
    }

    /// A sample delivery that the provider could send: event type and body.
    pub fn sample(&self) -> (&str, &str) {
        (&self.sample.event_type, &self.sample.body)
    }
}
