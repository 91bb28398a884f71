//! What must hold for every scheme, whatever its file says: a new file needs no new test.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Map;

use crate::{
    Rejection, Request, Scheme, Secret,
    scheme::{BUILTIN, File},
    vector::{self, Row},
};

#[test]
fn every_vector_of_every_scheme_passes() {
    for (name, text) in BUILTIN {
        let results = vector::run_scheme(name, text).expect("a scheme file");
        assert!(results.len() > 5, "{name} has too few vectors");
        for result in results {
            assert!(result.ok, "{}: {}", result.id, result.detail);
            assert!(result.id.starts_with(&format!("{name}/")), "{} is in the file of {name}", result.id);
        }
    }
}

#[test]
fn schemes_are_sorted() {
    assert!(Scheme::names().is_sorted());
}

/// An accepted vector, to be spoilt.
#[derive(Clone)]
struct Delivery {
    row: String,
    scheme: Scheme,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    secrets: Vec<Vec<u8>>,
}

impl Delivery {
    fn accepted() -> impl Iterator<Item = Self> {
        BUILTIN.iter().flat_map(|(name, text)| {
            let rows = File::parse(name, text).expect("a scheme file").vectors;
            rows.into_iter().map(|row| Self::new(name, &row)).filter(|delivery| delivery.verdict().is_ok())
        })
    }

    fn new(scheme: &str, row: &Row) -> Self {
        Self {
            row: row.id.clone(),
            scheme: Scheme::builtin(scheme, &row.options).expect("the options of a vector"),
            headers: row.headers(),
            body: row.body.clone().into_bytes(),
            secrets: row.secrets().iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    /// Without a clock, so that the signature alone decides.
    fn verdict(&self) -> Result<usize, Rejection> {
        let secrets: Vec<Secret> = self.secrets.iter().map(|bytes| Secret::new(bytes.clone())).collect();
        let request = Request { method: "POST", url: "/", headers: &self.headers, body: &self.body };
        self.scheme.verify(&request, &secrets, None).map(|verified| verified.secret)
    }

    fn header(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.headers.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).expect("an accepted row has every required header")
    }

    /// Flips every bit of one part, one at a time: each must spoil it. `same` says of which changes no
    /// scheme takes notice.
    fn spoil(&self, part: impl Fn(&mut Self) -> &mut Vec<u8>, same: impl Fn(&[u8], &[u8]) -> bool) {
        let original = part(&mut self.clone()).clone();
        for bit in 0..original.len() * 8 {
            let mut spoilt = self.clone();
            let bytes = part(&mut spoilt);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if !same(&original, bytes) {
                let shown = bytes.escape_ascii().to_string();
                assert!(spoilt.verdict().is_err(), "{} passes with {shown}", self.row);
            }
        }
    }

    /// The headers whose value is in the message.
    fn signed_headers(&self) -> Vec<String> {
        let signatures = self.scheme.secret_headers();
        self.scheme.required_headers().into_iter().filter(|name| !signatures.contains(name)).collect()
    }
}

#[test]
fn one_flipped_bit_of_the_body_spoils_it() {
    for delivery in Delivery::accepted() {
        delivery.spoil(|d| &mut d.body, |_, _| false);
    }
}

#[test]
fn one_flipped_bit_of_a_signed_header_spoils_it() {
    for delivery in Delivery::accepted() {
        for name in delivery.signed_headers() {
            delivery.spoil(|d| d.header(&name), |_, _| false);
        }
    }
}

#[test]
fn one_flipped_bit_of_the_signature_spoils_it() {
    for delivery in Delivery::accepted() {
        for name in delivery.scheme.secret_headers() {
            // A list also holds signatures that nobody needs; a hex digit has two cases.
            if !delivery.clone().header(&name).contains(&b' ') {
                delivery.spoil(|d| d.header(&name), <[u8]>::eq_ignore_ascii_case);
            }
        }
    }
}

#[test]
fn one_flipped_bit_of_the_secret_that_matched_spoils_it() {
    for delivery in Delivery::accepted() {
        let matched = delivery.verdict().expect("an accepted row");
        delivery.spoil(
            |d| &mut d.secrets[matched],
            |a, b| delivery.row == "hmac/key-hex" && a.eq_ignore_ascii_case(b),
        );
    }
}

#[test]
fn a_header_that_the_scheme_reads_comes_once() {
    for delivery in Delivery::accepted() {
        for name in delivery.scheme.required_headers() {
            let mut without = delivery.clone();
            without.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(&name));
            assert_eq!(without.verdict(), Err(Rejection::MissingHeader(name.clone())), "{}", delivery.row);

            let mut twice = delivery.clone();
            let value = twice.header(&name).clone();
            twice.headers.push((name.to_uppercase(), value));
            assert_eq!(twice.verdict(), Err(Rejection::RepeatedHeader(name)), "{}", delivery.row);
        }
    }
}

/// A secret that signs, for each scheme with its options.
fn signers() -> Vec<(Scheme, &'static str)> {
    let options = |json: serde_json::Value| json.as_object().cloned().expect("a table");
    let scheme = |name: &str, options: Map<_, _>| Scheme::builtin(name, &options).expect("good options");
    let stamped = options(serde_json::json!({
        "header": "X-Signature", "algorithm": "hmac-sha512", "encoding": "base64url", "prefix": "v1:",
        "timestamp": "X-Time", "timestamp_unit": "ms", "tolerance": "1m", "message": "{timestamp}:{id}:{body}",
        "delivery_id": "X-Id", "event_type": "X-Type",
    }));
    let pair =
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    vec![
        (scheme("github", Map::new()), "It's a Secret to Everybody"),
        (scheme("hmac", stamped), "an ordinary secret"),
        (scheme("standard-webhooks", Map::new()), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (scheme("standard-webhooks", Map::new()), pair),
    ]
}

fn signed(scheme: &Scheme, secret: &Secret, body: &[u8], now: Timestamp) -> Vec<(String, Vec<u8>)> {
    let headers = scheme.sign(secret, body, "msg_1", "user.created", now).expect("a key that signs");
    headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect()
}

const SECONDS: std::ops::RangeInclusive<i64> = 0..=253_402_200_000;

#[test]
fn what_is_signed_verifies() {
    let signers = signers();
    proptest!(|(body: Vec<u8>, seconds in SECONDS)| {
        let now = Timestamp::from_second(seconds).expect("in range");
        for (scheme, secret) in &signers {
            let secret = Secret::new(*secret);
            let headers = signed(scheme, &secret, &body, now);
            let request = Request { method: "POST", url: "/", headers: &headers, body: &body };
            let verified = scheme.verify(&request, &[secret], Some(now)).expect("what was signed");
            prop_assert_eq!(verified.delivery_id.as_deref(), Some("msg_1"));
        }
    });
}

#[test]
fn nothing_that_comes_is_a_panic() {
    let signers = signers();
    proptest!(|(first: Vec<u8>, second: Vec<u8>, third: Vec<u8>, body: Vec<u8>, seconds in SECONDS)| {
        for (scheme, secret) in &signers {
            let secret = Secret::new(*secret);
            let mut headers = signed(scheme, &secret, &body, Timestamp::UNIX_EPOCH);
            for ((_, value), noise) in headers.iter_mut().zip([&first, &second, &third]) {
                value.clone_from(noise);
            }
            let request = Request { method: "POST", url: "/", headers: &headers, body: &body };
            prop_assert!(scheme.verify(&request, &[secret], Timestamp::from_second(seconds).ok()).is_err());
        }
    });
}

#[test]
fn samples_are_deliveries() {
    for (scheme, secret) in signers() {
        let (event_type, body) = scheme.sample();
        let secret = Secret::new(secret);
        let headers =
            scheme.sign(&secret, body.as_bytes(), "msg_1", event_type, Timestamp::UNIX_EPOCH).expect("signs");
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let request = Request { method: "POST", url: "/", headers: &headers, body: body.as_bytes() };
        let verified =
            scheme.verify(&request, &[secret], Some(Timestamp::UNIX_EPOCH)).expect("what was signed");
        assert_eq!(verified.event_type.as_deref(), Some(event_type), "{}", scheme.name());
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
