//! What is signed verifies, and nothing that comes is a panic.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Map;

use crate::{
    Request, Scheme, Secret, Waiting,
    scheme::{BUILTIN, File},
    vector,
};

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

type Example = (Scheme, Vec<(String, Vec<u8>)>, Vec<u8>, Vec<Secret>);

/// Every scheme with the options of one of its vectors, and that vector.
fn examples() -> Vec<Example> {
    let example = |(name, text): &(&str, &str)| {
        let row = File::parse(name, text).expect("a scheme file").vectors.swap_remove(0);
        let scheme = Scheme::with_options(name, text, &row.options).expect("good options");
        let secrets = row.secrets().iter().map(|secret| Secret::new(secret.as_str())).collect();
        (scheme, row.headers(), row.body.into_bytes(), secrets)
    };
    BUILTIN.iter().map(example).collect()
}

#[test]
fn no_request_is_a_panic_for_any_scheme() {
    let examples = examples();
    let piece = proptest::sample::select(vec![
        "=", ",", ".", " ", "v1", "t", "sha256", "AAAA", ";", "{", "[", "\"", "%", "0", "é",
    ]);
    let text = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    proptest!(ProptestConfig::with_cases(64), |(value in text, body: Vec<u8>, url in "(https://a)?/[a-z?&=%+.:]{0,16}", post: bool)| {
        for (scheme, headers, original, secrets) in &examples {
            let noisy: Vec<_> = headers.iter().map(|(name, _)| (name.clone(), value.clone().into_bytes())).collect();
            let method = if post { "POST" } else { "GET" };
            for (headers, body) in [(&noisy, &body), (headers, &body), (&noisy, original)] {
                let request = Request { method, url: &url, headers, body };
                let now = Timestamp::from_second(1_700_000_000).ok();
                let _ = scheme.judge(&request, secrets, now, Waiting::No);
                let _ = scheme.check_head(&request, now);
            }
        }
    });
}

#[test]
fn no_secret_is_a_panic_for_any_scheme() {
    let examples = examples();
    proptest!(ProptestConfig::with_cases(64), |(secret: Vec<u8>, prefix in "(whpk_|whsk_|whsec_|-----BEGIN PUBLIC KEY-----\n|\\{\"kty\":\"EC\"|)?")| {
        let secret = Secret::new([prefix.as_bytes(), &secret].concat());
        for (scheme, ..) in &examples {
            let _ = scheme.check_secret(&secret);
        }
    });
}

#[test]
fn no_scheme_file_is_a_panic() {
    proptest!(ProptestConfig::with_cases(200), |(which in 0..BUILTIN.len(), cut in 0..60_usize, paste in "[ -~\n]{0,20}")| {
        let (name, text) = BUILTIN[which];
        // Without its vectors, which are most of it.
        let rule = text.split("[[vector]]").next().expect("the rule");
        let mut lines: Vec<&str> = rule.lines().collect();
        let at = cut % lines.len();
        lines[at] = &paste;
        let _ = vector::run_scheme(name, &lines.join("\n"));
        lines.remove(at);
        let _ = vector::run_scheme(name, &lines.join("\n"));
    });
}
