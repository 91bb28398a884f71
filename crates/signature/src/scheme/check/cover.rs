//! That what a scheme relies on is signed: the body, or a sentence says why not; the timestamp always.

use super::{
    super::{HashRule, Scheme, SignatureRule},
    Problem,
};
use crate::{
    algorithm::Algorithm,
    place::{At, Place},
    template::Value,
    timestamp::{Presence, TimestampRule},
};

pub(super) fn check(scheme: &Scheme) -> Result<(), Problem> {
    body(scheme)?;
    timestamp(scheme)?;
    let signs_id = scheme.signatures.iter().any(|rule| rule.message.holds(&Value::Id));
    let in_header = !scheme.delivery.id.is_empty();
    if signs_id && !in_header {
        return Err(Problem::new("delivery.id.header", "the message holds {id}: name its header"));
    }
    Ok(())
}

fn body(scheme: &Scheme) -> Result<(), Problem> {
    let open = scheme.signatures.iter().enumerate().find(|(_, rule)| !covers_body(rule, &scheme.hashes));
    let explained = scheme.unsigned_body.as_deref().map(str::trim);
    match (open, explained) {
        (None, Some(_)) => Err(Problem::new("unsigned_body", "the whole body is signed: take this out")),
        (Some(_), Some("")) => Err(Problem::new("unsigned_body", "say what is not signed")),
        (Some((n, rule)), None) => {
            let at = if rule.message.values().is_empty() {
                format!("signature.{n}")
            } else {
                "message".to_owned()
            };
            let wrong = format!(
                "{:?} does not hold {{body}}, so that any body would pass; where a provider signs no more, \
                 unsigned_body = \"..\" must say so",
                rule.message.to_string()
            );
            Err(Problem::new(at, wrong))
        }
        (None, None) | (Some(_), Some(_)) => Ok(()),
    }
}

/// A CRC does not: anyone can make another body with the same.
fn covers_body(rule: &SignatureRule, hashes: &[HashRule]) -> bool {
    let whole = |value: &&Value| {
        matches!(value, Value::Body | Value::FormSorted | Value::OnlyField(_) | Value::Sha256)
    };
    if rule.algorithm != Algorithm::Equality && rule.message.values().iter().any(whole) {
        return true;
    }
    hashes.iter().any(|hash| {
        let same = hash.when.is_empty() || hash.when == rule.when;
        same && hash.of.values().iter().any(whole) && covers_place(rule, &hash.equals)
    })
}

fn covers_place(rule: &SignatureRule, place: &Place) -> bool {
    let held = |value: &Value| rule.message.holds(value);
    let direct = Place { at: place.at.clone(), cut: None };
    held(&Value::At(direct))
        || match &place.at {
            At::Claim(_) => rule.jwt.is_some(),
            At::Query(_) => held(&Value::Url) || held(&Value::Query),
            At::Header(_) | At::Form(_) | At::Body(_) | At::All(_) => false,
        }
}

fn timestamp(scheme: &Scheme) -> Result<(), Problem> {
    let holds = |rule: &SignatureRule| rule.message.holds(&Value::Timestamp);
    let Some(rule) = &scheme.timestamp else {
        if scheme.signatures.iter().any(holds) {
            return Err(Problem::new("timestamp.header", "the message holds {timestamp}: name its header"));
        }
        return Ok(());
    };
    if !scheme.signatures.iter().all(|signature| signs_time(scheme, signature, rule)) {
        let wrong = "it does not hold {timestamp}, and an unsigned timestamp proves nothing";
        return Err(Problem::new("message", wrong));
    }
    if rule.presence == Presence::Optional && !matches!(rule.at().at, At::Body(_) | At::Claim(_)) {
        let wrong = "only a time inside of what is signed may be missing: otherwise anyone can leave it out";
        return Err(Problem::new("timestamp.optional", wrong));
    }
    Ok(())
}

fn signs_time(scheme: &Scheme, rule: &SignatureRule, timestamp: &TimestampRule) -> bool {
    let in_body = matches!(timestamp.at().at, At::Body(_) | At::Form(_));
    rule.message.holds(&Value::Timestamp)
        || covers_place(rule, timestamp.at())
        || (in_body && covers_body(rule, &scheme.hashes))
}

/// Whether the id by which duplicates are recognised is part of what every rule signs. For documentation.
pub(in crate::scheme) fn signs_id(scheme: &Scheme) -> bool {
    let signed = |rule: &SignatureRule, place: &Place| {
        let in_body = matches!(place.at, At::Body(_) | At::Form(_)) && scheme.each.is_none();
        covers_place(rule, place) || (in_body && covers_body(rule, &scheme.hashes))
    };
    scheme.signatures.iter().all(|rule| {
        rule.message.holds(&Value::Id) || scheme.delivery.id.iter().all(|place| signed(rule, place))
    })
}
