//! A scheme in a few words, for the table of the documentation.

use super::{Dedupe, Scheme, SignatureRule, check};
use crate::{
    algorithm::{Algorithm, EcdsaForm, Hash},
    handshake::{Handshake, Proof},
};

/// Name, whose, what is signed, by what a duplicate is recognised and why, what is answered besides.
pub(super) fn row(scheme: &Scheme) -> [String; 5] {
    let about = match scheme.docs.as_str() {
        "" => scheme.about.clone(),
        docs => format!("[{}]({docs})", scheme.about),
    };
    [scheme.name.clone(), about, signed(scheme), dedupe(scheme), answers(scheme)]
}

fn signed(scheme: &Scheme) -> String {
    let mut rules: Vec<String> = Vec::new();
    for rule in scheme.signatures.iter().map(rule) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    let age = scheme
        .timestamp
        .as_ref()
        .map(|time| format!("; at most {} old", hetuflow_core::duration::format(time.tolerance)));
    let open = scheme.unsigned_body.as_ref().map(|why| format!(". **Sender only**: {why}"));
    [rules.join("; or "), age.unwrap_or_default(), open.unwrap_or_default()].concat()
}

fn rule(rule: &SignatureRule) -> String {
    let places: Vec<String> = rule.places.iter().map(|place| format!("{place}")).collect();
    let at = places.join(" or ");
    match (&rule.jwt, rule.algorithm) {
        (Some(jwt), _) => {
            let names: Vec<&str> = jwt.algorithms.iter().map(|(name, _)| name.as_str()).collect();
            format!("a token ({}) in {at}", names.join(", "))
        }
        (None, Algorithm::Equality) => format!("nothing; the secret itself comes in {at}"),
        (None, algorithm) => format!("`{}`: {}, {at}", code(&rule.message.to_string()), name(algorithm)),
    }
}

/// Fits into a cell of a table.
fn code(text: &str) -> String {
    text.replace('\n', "\\n").replace('|', "\\|")
}

fn name(algorithm: Algorithm) -> String {
    let hash = |hash: Hash| match hash {
        Hash::Sha1 => "SHA-1",
        Hash::Sha224 => "SHA-224",
        Hash::Sha256 => "SHA-256",
        Hash::Sha384 => "SHA-384",
        Hash::Sha512 => "SHA-512",
    };
    match algorithm {
        Algorithm::Equality => "equality".to_owned(),
        Algorithm::Hmac(with) => format!("HMAC {}", hash(with)),
        Algorithm::Ed25519 => "Ed25519".to_owned(),
        Algorithm::EcdsaP256(EcdsaForm::Asn1 | EcdsaForm::Fixed) => "ECDSA P-256".to_owned(),
        Algorithm::Rsa(with) => format!("RSA {}", hash(with)),
        Algorithm::Jwt => "token".to_owned(),
    }
}

fn dedupe(scheme: &Scheme) -> String {
    let ids: Vec<String> = scheme.delivery.id.iter().map(|place| format!("{place}")).collect();
    let because = &scheme.delivery.because;
    let rule = |by: &Dedupe| match by {
        Dedupe::DeliveryId if ids.is_empty() => "the id that you name".to_owned(),
        Dedupe::DeliveryId => {
            let signed = if check::signs_id(scheme) { "signed" } else { "not signed" };
            format!("{} ({signed})", ids.join(", else "))
        }
        Dedupe::Message => "what is signed".to_owned(),
    };
    let rules: Vec<String> = scheme.delivery.dedupe.iter().map(rule).collect();
    let rules = if rules.is_empty() { "nothing".to_owned() } else { rules.join(", else ") };
    format!("{rules}: {because}")
}

fn answers(scheme: &Scheme) -> String {
    let proof = |handshake: &Handshake| match handshake.proof {
        Proof::None => "",
        Proof::Signature => ", when signed",
        Proof::Token(_) => ", to who knows the token",
        Proof::SetsSecret(_) => ", once, while the hook waits for its secret",
    };
    let handshakes = scheme
        .handshakes
        .iter()
        .map(|handshake| format!("{}: {}{}", handshake.method.name(), handshake.about, proof(handshake)));
    let pings = scheme.pings.iter().map(|ping| {
        let when: Vec<String> = ping.when.iter().map(ToString::to_string).collect();
        format!("ping: {}", when.join(", "))
    });
    handshakes.chain(pings).collect::<Vec<_>>().join("; ")
}
