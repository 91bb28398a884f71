//! Judges the signature of one request. Step 3 of the walk: nothing else looks at a body before this has.

use jiff::Timestamp;

use crate::{
    Scheme, Secret,
    condition::all_hold,
    form,
    place::{self, Place, Source},
    proof::{Proof, Prover},
    scheme::{Dedupe, HashRule, Replay, SignatureRule},
    template::{Filling, Value},
};

/// What was received, untouched.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Absolute, as the sender knows it; or path and query where nobody knows that.
    pub url: &'a str,
    /// In the order received; names in any case.
    pub headers: &'a [(String, Vec<u8>)],
    pub body: &'a [u8],
}

/// The proof that a request is authentic, with what its scheme reads from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive] // so that nobody else can make one
pub struct Verified {
    /// Which of the live secrets matched, by its place in the list.
    pub secret: usize,
    /// The sender's id of this delivery.
    pub delivery_id: Option<String>,
    pub event_type: Option<String>,
    /// By which a second delivery of the same event is recognised, within one hook. Without it every
    /// delivery is a new event.
    pub dedupe_key: Option<String>,
    /// Another by which it is recognised as well: under `replay = "strict"` that of what was signed, where the first
    /// is something else.
    pub replay_key: Option<String>,
}

/// Why a request is not authentic. For the owner of the hook; the sender only learns 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no secret is configured, or one is empty")]
    NoSecret,
    /// By its place in the list, from 0, as in [`Verified::secret`].
    #[error("secret {} of the list cannot be used: {why}", .place + 1)]
    BadSecret { place: usize, why: String },
    /// Verification can be run again with what is there as the secret.
    #[error(
        "its key is published at {url}: what is there ({gives}) can stand where the trigger's secret says"
    )]
    KeyNeeded {
        url: String,
        gives: String,
        /// It is the request that says so.
        by_sender: bool,
    },
    #[error("secret {} of the list is a certificate that is not valid now", .place + 1)]
    Expired { place: usize },
    #[error("{0} is missing or empty")]
    Missing(String),
    #[error("{0} came more than once")]
    Repeated(String),
    #[error("{0} is malformed: {1}")]
    Malformed(String, String),
    #[error("timestamp is {0} s away, more than the {1} s allowed")]
    Timestamp(i64, i64),
    #[error(
        "the sender signs the hook's address, which is not known: set hooks.public_url, or the option url of the trigger"
    )]
    NoPublicUrl,
    #[error("no rule of the scheme is for requests like this one")]
    NoRule,
    #[error("the hash in {0} is not that of the request")]
    Hash(String),
    #[error("it is not so that {0}")]
    Unmet(String),
    #[error("{0} is neither a delivery nor a handshake of this scheme")]
    Unexpected(String),
    #[error("a handshake that sets the secret came, but the hook does not wait for one")]
    NotWaiting,
    #[error("signature does not match")]
    Mismatch,
}

impl Scheme {
    /// `now` is `None` where the age of timestamps shall not be judged (vectors, replays).
    pub fn verify(
        &self,
        request: &Request<'_>,
        secrets: &[Secret],
        now: Option<Timestamp>,
    ) -> Result<Verified, Rejection> {
        let source = Source::of(*request);
        if secrets.is_empty() {
            return Err(self.key_needed(&source, now)?);
        }
        let keys = self.keys(secrets)?;
        let urls = self.urls(request)?;
        let prover = Prover { scheme: self, keys: &keys, urls: &urls, now };
        let mut proofs: Vec<Proof> = Vec::new();
        for body in self.bodies(request)? {
            proofs.push(prover.prove(&Source { body, ..source })?);
        }
        let first = proofs.first().ok_or(Rejection::Mismatch)?;
        let authentic = Source { claims: &first.claims, ..source };
        self.check_hashes(&authentic, &urls)?;
        for condition in &self.require {
            if !condition.holds(&authentic)? {
                return Err(Rejection::Unmet(condition.to_string()));
            }
        }
        let delivery_id = place::first(&self.delivery.id, &authentic)?.map(String::from);
        let event_type = place::first(&self.delivery.event_type, &authentic)?.map(String::from);
        let (dedupe_key, replay_key) = self.keys_of(delivery_id.as_ref(), &proofs);
        Ok(Verified { secret: first.secret, delivery_id, event_type, dedupe_key, replay_key })
    }

    /// By what it is recognised. An id that is not signed could be another one next time, and what is signed is
    /// another when a sender that signs the time tries again: strict goes by both.
    fn keys_of(&self, delivery_id: Option<&String>, proofs: &[Proof]) -> (Option<String>, Option<String>) {
        let signed = || {
            let digests: Vec<&str> = proofs.iter().filter_map(|proof| proof.digest.as_deref()).collect();
            Some(digests.join(" ")).filter(|text| !text.is_empty())
        };
        let by_rule = self.delivery.dedupe.iter().find_map(|by| match by {
            Dedupe::DeliveryId => delivery_id.cloned(),
            Dedupe::Message => signed(),
        });
        match self.delivery.replay {
            Replay::AsSchemeSays => (by_rule, None),
            Replay::Strict if by_rule.is_none() => (signed(), None),
            Replay::Strict => {
                let second = signed().filter(|digest| by_rule.as_ref() != Some(digest));
                (by_rule, second)
            }
        }
    }

    /// What can be judged before the body is read: every header that the scheme reads is there as often as
    /// it must be and well-formed, and the timestamp is near enough. `request` has no body yet.
    pub fn check_head(&self, request: &Request<'_>, now: Option<Timestamp>) -> Result<(), Rejection> {
        let head = Source::of(*request);
        // Other methods bring questions, which are judged whole.
        if request.method != "POST" || self.may_be_unsigned(&head)? {
            return Ok(());
        }
        for places in self.required_places() {
            let mut found = false;
            for place in &places {
                found |= place.find(&head)?.is_some();
            }
            if let (false, Some(first)) = (found, places.first()) {
                return Err(Rejection::Missing(first.to_string()));
            }
        }
        match &self.timestamp {
            Some(rule) if rule.places.iter().all(|place| place.header_name().is_some()) => {
                rule.judge(place::first(&rule.places, &head)?.as_deref(), now)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Of each list one header must be there, whatever the body is: one that may hold a signature, and one of the id
    /// where that is signed.
    fn required_places(&self) -> Vec<Vec<&Place>> {
        let signed = self.signatures.iter().all(|rule| rule.message.holds(&Value::Id));
        let signatures = self.signatures.iter().flat_map(|rule| &rule.places).collect();
        let ids = if signed { self.delivery.id.iter().collect() } else { Vec::new() };
        let mut lists: Vec<Vec<&Place>> = vec![signatures, ids];
        lists.retain(|places| places.iter().all(|place| place.header_name().is_some()));
        lists
    }

    /// The body, or each item of it that is signed by itself.
    fn bodies<'a>(&self, request: &Request<'a>) -> Result<Vec<&'a [u8]>, Rejection> {
        let Some(each) = &self.each else { return Ok(vec![request.body]) };
        let items = each.items(request.body).filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| Rejection::Missing(format!("body list {}", each.as_str())))?;
        Ok(items.into_iter().map(|item| item.get().as_bytes()).collect())
    }

    /// Every way in which the sender may have written the address, if that counts.
    pub(crate) fn urls(&self, request: &Request<'_>) -> Result<Vec<String>, Rejection> {
        if !self.signs_url() {
            return Ok(Vec::new());
        }
        let query = form::query(request.url);
        let url = match &self.address.public {
            Some(public) if query.is_empty() => public.clone(),
            Some(public) => format!("{public}?{query}"),
            None if form::split(request.url).is_some() => request.url.to_owned(),
            None => return Err(Rejection::NoPublicUrl),
        };
        Ok(self.address.variants.of(&url))
    }

    fn key_needed(&self, source: &Source<'_>, now: Option<Timestamp>) -> Result<Rejection, Rejection> {
        let mut missing = Rejection::NoSecret;
        for rule in &self.signatures {
            let Some(fetch) = &rule.key.fetch else { continue };
            if fetch.is_fixed() {
                let url = fetch.address(source)?;
                return Ok(Rejection::KeyNeeded { url, gives: fetch.gives.clone(), by_sender: false });
            }
            missing = Rejection::NoRule;
            if all_hold(&rule.when, source)? {
                let url = fetch.address(source)?;
                self.check_before_fetch(rule, source, now)?;
                return Ok(Rejection::KeyNeeded { url, gives: fetch.gives.clone(), by_sender: true });
            }
        }
        Ok(missing)
    }

    /// Nobody opens an address for a request that no key could make authentic.
    fn check_before_fetch(
        &self,
        rule: &SignatureRule,
        source: &Source<'_>,
        now: Option<Timestamp>,
    ) -> Result<(), Rejection> {
        if rule.items(source)?.is_empty() {
            return Err(Rejection::Missing(rule.places[0].to_string()));
        }
        if let Some(timestamp) = self.timestamp.as_ref().filter(|rule| !rule.is_claim()) {
            timestamp.judge(place::first(&timestamp.places, source)?.as_deref(), now)?;
        }
        for condition in self.require.iter().filter(|condition| !condition.is_of_claim()) {
            if !condition.holds(source)? {
                return Err(Rejection::Unmet(condition.to_string()));
            }
        }
        Ok(())
    }

    fn check_hashes(&self, source: &Source<'_>, urls: &[String]) -> Result<(), Rejection> {
        for rule in &self.hashes {
            if all_hold(&rule.when, source)? {
                rule.check(source, urls)?;
            }
        }
        Ok(())
    }
}

impl HashRule {
    /// What it is compared with is signed and no secret, so that it may take as long as it takes.
    fn check(&self, source: &Source<'_>, urls: &[String]) -> Result<(), Rejection> {
        let missing = || Rejection::Missing(self.equals.to_string());
        let given = self.equals.find(source)?.ok_or_else(missing)?;
        let given = self.encoding.decode(&given);
        let once = [String::new()];
        for url in if urls.is_empty() { &once } else { urls } {
            let filling = Filling { source: *source, url, timestamp: "", id: "", mac: "" };
            if given.as_ref() == Some(&self.algorithm.digest(&self.of.fill(&filling)?)) {
                return Ok(());
            }
        }
        Err(Rejection::Hash(self.equals.to_string()))
    }
}
