//! A scheme: how one provider signs its deliveries, as its file in `schemes/` says.
//!
//! `file` is the form of such a file, `options` what a trigger may set in it, `check` turns both into
//! a [`Scheme`], which cannot exist unchecked. A provider is added by a file and one line in `builtin`.

mod builtin;
mod check;
mod file;
mod options;
mod table;

use hetuflow_core::suggest::among;
use serde_json::{Map, Value};

use crate::{
    algorithm::{Algorithm, Hash},
    condition::Condition,
    encoding::Encoding,
    fetch::Fetch,
    form::UrlVariants,
    handshake::{Handshake, Ping},
    json::Pointer,
    jwt::JwtRule,
    place::Place,
    template::{self, Template},
    timestamp::TimestampRule,
};

pub(crate) use builtin::BUILTIN;
pub(crate) use file::File;

/// A provider's rule, parsed and checked.
#[derive(Debug, Clone)]
pub struct Scheme {
    name: String,
    about: String,
    docs: String,
    pub(crate) each: Option<Pointer>,
    /// At least one. More than one where a provider has several kinds of key or of message.
    pub(crate) signatures: Vec<SignatureRule>,
    pub(crate) address: Address,
    pub(crate) timestamp: Option<TimestampRule>,
    pub(crate) hashes: Vec<HashRule>,
    pub(crate) require: Vec<Condition>,
    pub(crate) delivery: DeliveryRule,
    pub(crate) handshakes: Vec<Handshake>,
    pub(crate) pings: Vec<Ping>,
    unsigned_body: Option<String>,
    sample: Sample,
}

/// Where signatures stand, how they are written, what they cover, and the key that they are made with.
#[derive(Debug, Clone)]
pub(crate) struct SignatureRule {
    /// The rule counts only for requests of which all of these hold.
    pub(crate) when: Vec<Condition>,
    /// Signatures of all of these are tried.
    pub(crate) places: Vec<Place>,
    /// Between several signatures at one place.
    pub(crate) separator: Option<String>,
    /// What a signature starts with; one that does not is somebody else's.
    pub(crate) prefix: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: Encoding,
    pub(crate) key: KeyRule,
    /// Empty for tokens and for secrets that are sent as they are.
    pub(crate) message: Template,
    pub(crate) jwt: Option<JwtRule>,
}

impl SignatureRule {
    pub(crate) fn is_public(&self) -> bool {
        match &self.jwt {
            Some(jwt) => jwt.algorithms.iter().all(|(_, algorithm)| algorithm.is_public()),
            None => self.algorithm.is_public(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct KeyRule {
    /// What a secret of this rule starts with; not part of the key.
    pub(crate) prefixes: Vec<String>,
    /// `None`: the secret's own bytes are the key.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) fetch: Option<Fetch>,
    /// Rules that take the same secrets have the same number.
    pub(crate) family: usize,
}

/// How the hook's own address becomes part of a message.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) variants: UrlVariants,
    /// What the provider calls, without its query, where the trigger says so.
    pub(crate) public: Option<String>,
}

/// A hash of something, which something signed must hold.
#[derive(Debug, Clone)]
pub(crate) struct HashRule {
    pub(crate) when: Vec<Condition>,
    pub(crate) of: Template,
    pub(crate) algorithm: Hash,
    pub(crate) encoding: Encoding,
    pub(crate) equals: Place,
}

/// How a delivery is named, and recognised when it comes again.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryRule {
    /// The first that is there counts.
    pub(crate) id: Vec<Place>,
    pub(crate) event_type: Vec<Place>,
    /// The first that gives a key counts; without any, every delivery is an event.
    pub(crate) dedupe: Vec<Dedupe>,
    because: String,
    pub(crate) replay: Replay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dedupe {
    /// By the provider's delivery id.
    DeliveryId,
    /// By the bytes that the signature covers.
    Message,
}

/// Whether what was signed once may count again under another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    AsSchemeSays,
    Strict,
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

    /// A built-in scheme with the options of a trigger.
    /// The error says in one sentence what is allowed.
    pub fn builtin(name: &str, options: &Map<String, Value>) -> Result<Self, SchemeError> {
        let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            SchemeError(format!("there is no scheme {name:?} ({})", among(name, &Self::names())))
        })?;
        Self::with_options(name, text, options)
    }

    /// The scheme that a trigger names: a built-in one, or one whose text comes along as the option `definition`.
    pub fn named(name: &str, options: &Map<String, Value>) -> Result<Self, SchemeError> {
        let Some(text) = options.get("definition") else { return Self::builtin(name, options) };
        if BUILTIN.iter().any(|(known, _)| *known == name) {
            return Err(SchemeError(format!("scheme {name:?} is built in: give yours another name")));
        }
        let text = text
            .as_str()
            .ok_or_else(|| SchemeError("definition must be the text of a scheme file".to_owned()))?;
        let mut options = options.clone();
        options.remove("definition");
        Self::with_options(name, text, &options)
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

    /// Whose deliveries these are.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Why a body, or a part of it, passes unsigned. `None`: all of it is signed.
    pub fn unsigned_body(&self) -> Option<&str> {
        self.unsigned_body.as_deref()
    }

    /// Whether requests are signed together with the address that the sender calls.
    pub fn signs_url(&self) -> bool {
        let hashed = self.hashes.iter().map(|rule| &rule.of);
        self.signatures.iter().map(|rule| &rule.message).chain(hashed).any(|m| m.holds(&template::Value::Url))
    }

    /// Whether every key that counts may be known to all. Only such keys are taken from an address.
    pub fn has_public_keys(&self) -> bool {
        self.signatures.iter().all(SignatureRule::is_public)
    }

    /// Whether it shows where keys are published: a trigger then needs no secret.
    pub fn finds_keys(&self) -> bool {
        self.signatures.iter().all(|rule| rule.key.fetch.is_some())
    }

    /// What an owner should know before relying on it; empty where there is nothing to say.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.unsigned_body {
            warnings.push(format!("scheme {:?} does not sign the body: {why}", self.name));
        }
        let bare = self.signatures.iter().filter(|rule| rule.algorithm == Algorithm::Equality);
        for parameter in bare.flat_map(|rule| &rule.places).filter_map(Place::parameter_name) {
            warnings.push(format!(
                "scheme {:?} takes the secret from the address (?{parameter}=..), and addresses end up in logs of \
                 proxies and senders: prefer a header where the sender can write one",
                self.name
            ));
        }
        let unnamed = self.delivery.dedupe == [Dedupe::DeliveryId] && self.delivery.id.is_empty();
        if self.delivery.replay == Replay::AsSchemeSays && unnamed {
            warnings.push(format!(
                "scheme {:?} names no delivery id here: a delivery that is sent twice runs twice (name a header \
                 with the option delivery_id, or recognise equal messages with dedupe = \"message\")",
                self.name
            ));
        }
        warnings
    }

    /// The rule in a few columns, for documentation: what is signed, by what a duplicate is recognised and
    /// why, what is answered besides deliveries.
    pub fn row(&self) -> [String; 5] {
        table::row(self)
    }

    /// Headers (lower case) whose values must not be stored in clear.
    pub fn secret_headers(&self) -> Vec<String> {
        let names = self.signatures.iter().flat_map(|rule| &rule.places).filter_map(Place::header_name);
        let set = self.handshakes.iter().filter_map(Handshake::secret_header);
        let mut headers: Vec<String> = names.chain(set).map(str::to_owned).collect();
        headers.sort();
        headers.dedup();
        headers
    }

    /// Query parameters whose values must not be stored in clear.
    pub fn secret_parameters(&self) -> Vec<String> {
        let signatures = self.signatures.iter().flat_map(|rule| &rule.places);
        let tokens = self.handshakes.iter().filter_map(Handshake::token);
        signatures.chain(tokens).filter_map(Place::parameter_name).map(str::to_owned).collect()
    }

    /// A sample delivery that the provider could send: event type and body.
    pub fn sample(&self) -> (&str, &str) {
        (&self.sample.event_type, &self.sample.body)
    }
}
