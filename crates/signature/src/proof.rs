//! The one question that verification comes down to: did one of the live secrets sign this?

use std::borrow::Cow;

use jiff::Timestamp;
use subtle::Choice;

use crate::{
    Rejection, Scheme,
    algorithm::{Algorithm, Hash},
    condition::all_hold,
    jwt::Token,
    place::{Cut, Source, first},
    scheme::{Dedupe, Replay, SignatureRule},
    secret::RuledKey,
    template::{Filling, Parts, Value},
};

/// More signatures than any provider sends while it rotates its keys.
const MAX_SIGNATURES: usize = 8;

pub(crate) struct Prover<'p> {
    pub(crate) scheme: &'p Scheme,
    pub(crate) keys: &'p [RuledKey],
    /// Empty where addresses are not signed.
    pub(crate) urls: &'p [String],
    pub(crate) now: Option<Timestamp>,
}

/// That a body, or an item of one, is authentic.
pub(crate) struct Proof {
    /// The place of the secret that matched.
    pub(crate) secret: usize,
    /// Of the token, in JSON; empty where there was none.
    pub(crate) claims: Vec<u8>,
    /// Of what was signed, where it is the dedupe key. Not of the signature: one message can be signed twice.
    pub(crate) digest: Option<String>,
}

impl Prover<'_> {
    pub(crate) fn prove(&self, source: &Source<'_>) -> Result<Proof, Rejection> {
        let scheme = self.scheme;
        let mut rules = Vec::new();
        for rule in &scheme.signatures {
            if all_hold(&rule.when, source)? {
                rules.push(rule);
            }
        }
        let timestamp = self.timestamp(source)?;
        let id = self.signed_id(source, &rules)?;
        let filling = Filling { source: *source, url: "", timestamp: &timestamp, id: &id, mac: "" };
        let mut missing = rules.is_empty().then_some(Rejection::NoRule);
        let mut proof = None;
        let mut tried = false;
        // No early exit: how long it takes does not tell which secret or which signature was the right one.
        for rule in rules {
            let items = rule.items(source)?;
            if items.is_empty() && !rule.is_there(source)? {
                missing = missing.or_else(|| Some(Rejection::Missing(rule.places[0].to_string())));
                continue;
            }
            tried = true;
            let found = match &rule.jwt {
                Some(_) => self.token(rule, &items),
                None => self.message(rule, &items, &filling)?,
            };
            proof = proof.or(found);
        }
        let Some(proof) = proof else {
            return Err(missing.filter(|_| !tried).unwrap_or_else(|| self.mismatch()));
        };
        self.judge_claims(source, &proof)?;
        Ok(proof)
    }

    fn timestamp(&self, source: &Source<'_>) -> Result<String, Rejection> {
        let Some(rule) = self.scheme.timestamp.as_ref().filter(|rule| !rule.is_claim()) else {
            return Ok(String::new());
        };
        let value = first(&rule.places, source)?;
        rule.judge(value.as_deref(), self.now)?;
        Ok(value.unwrap_or_default().into_owned())
    }

    fn judge_claims(&self, source: &Source<'_>, proof: &Proof) -> Result<(), Rejection> {
        let source = Source { claims: &proof.claims, ..*source };
        let jwt = self.scheme.signatures.iter().find_map(|rule| rule.jwt.as_ref());
        if let Some(jwt) = jwt {
            // Checked when the scheme was read: where one rule is of tokens, all are.
            jwt.judge(&proof.claims, self.now.map(Timestamp::as_second))?;
        }
        match self.scheme.timestamp.as_ref().filter(|rule| rule.is_claim()) {
            Some(rule) => rule.judge(first(&rule.places, &source)?.as_deref(), self.now),
            None => Ok(()),
        }
    }

    /// The id, where it is part of the message.
    fn signed_id(&self, source: &Source<'_>, rules: &[&SignatureRule]) -> Result<String, Rejection> {
        let signing: Vec<_> = rules.iter().filter(|rule| rule.message.holds(&Value::Id)).collect();
        let Some(place) = self.scheme.delivery.id.first().filter(|_| !signing.is_empty()) else {
            return Ok(String::new());
        };
        let id =
            first(&self.scheme.delivery.id, source)?.ok_or_else(|| Rejection::Missing(place.to_string()))?;
        if signing.iter().all(|rule| rule.message.admits(&Value::Id, &id)) {
            return Ok(id.into_owned());
        }
        let why = "it holds the separator of the signed message";
        Err(Rejection::Malformed(place.to_string(), why.to_owned()))
    }

    fn message(
        &self,
        rule: &SignatureRule,
        items: &[Vec<u8>],
        filling: &Filling<'_>,
    ) -> Result<Option<Proof>, Rejection> {
        let once = [String::new()];
        let urls = if rule.message.holds(&Value::Url) { self.urls } else { &once };
        let mut proof = None;
        for url in urls {
            let message = rule.message.fill(&Filling { url, ..*filling })?;
            for ruled in self.keys_of(rule).filter(|ruled| ruled.algorithm == rule.algorithm) {
                let expected = ruled.key.expect(&message);
                let mut hit = Choice::from(0);
                for item in items {
                    hit |= expected.matches(item);
                }
                if bool::from(hit) && proof.is_none() {
                    let digest = self.digest(rule, &message, filling);
                    proof = Some(Proof { secret: ruled.secret, claims: Vec::new(), digest });
                }
            }
        }
        Ok(proof)
    }

    fn token(&self, rule: &SignatureRule, items: &[Vec<u8>]) -> Option<Proof> {
        let jwt = rule.jwt.as_ref()?;
        let mut proof = None;
        for token in items.iter().filter_map(|item| Token::parse(item, jwt)) {
            let input: Parts<'_> = vec![Cow::Borrowed(token.input)];
            let fits = |ruled: &&RuledKey| {
                let named = ruled.id.is_none() || token.key_id.is_none() || ruled.id == token.key_id;
                ruled.algorithm == token.algorithm && named
            };
            for ruled in self.keys_of(rule).filter(fits) {
                let hit = bool::from(ruled.key.expect(&input).matches(&token.signature));
                if hit && proof.is_none() {
                    let digest = self.wants_digest().then(|| digest(&input));
                    proof = Some(Proof { secret: ruled.secret, claims: token.claims.clone(), digest });
                }
            }
        }
        proof
    }

    /// The keys that may be used for a rule now.
    fn keys_of<'s>(&'s self, rule: &SignatureRule) -> impl Iterator<Item = &'s RuledKey> + use<'s> {
        let family = rule.key.family;
        self.keys.iter().filter(move |ruled| ruled.family == family && !self.is_expired(ruled))
    }

    fn is_expired(&self, ruled: &RuledKey) -> bool {
        let (Some((from, to)), Some(now)) = (ruled.valid, self.now) else { return false };
        !(from..=to).contains(&now.as_second())
    }

    fn mismatch(&self) -> Rejection {
        match self.keys.iter().find(|ruled| self.is_expired(ruled)) {
            Some(ruled) => Rejection::Expired { place: ruled.secret },
            None => Rejection::Mismatch,
        }
    }

    fn wants_digest(&self) -> bool {
        self.scheme.delivery.replay == Replay::Strict
            || self.scheme.delivery.dedupe.contains(&Dedupe::Message)
    }

    /// A secret that is sent as it is signs nothing; what identifies the delivery is then its body.
    fn digest(&self, rule: &SignatureRule, message: &Parts<'_>, filling: &Filling<'_>) -> Option<String> {
        let body = [Cow::Borrowed(filling.source.body)];
        let parts = if rule.algorithm == Algorithm::Equality { &body[..] } else { message };
        self.wants_digest().then(|| digest(parts))
    }
}

fn digest(parts: &[Cow<'_, [u8]>]) -> String {
    hex::encode(Hash::Sha256.digest(parts))
}

impl SignatureRule {
    /// The signatures that this rule can read; what it cannot decode is left out, for it matches nothing.
    pub(crate) fn items(&self, source: &Source<'_>) -> Result<Vec<Vec<u8>>, Rejection> {
        let cut = Cut { separator: self.separator.clone(), prefix: self.prefix.clone() };
        let mut decoded = Vec::new();
        for place in &self.places {
            let Some(value) = place.find(source)? else { continue };
            let items = cut.items(&value);
            if items.len() > MAX_SIGNATURES {
                let why = format!("it holds more than {MAX_SIGNATURES} signatures");
                return Err(Rejection::Malformed(place.to_string(), why));
            }
            let items = items.into_iter().filter(|item| !item.is_empty());
            decoded.extend(items.filter_map(|item| self.encoding.decode(item)));
        }
        Ok(decoded)
    }

    fn is_there(&self, source: &Source<'_>) -> Result<bool, Rejection> {
        for place in &self.places {
            if place.find(source)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
