//! What the owner of a hook reads, and what a verified request tells.

use jiff::Timestamp;
use serde_json::{Map, json};

use crate::{Rejection, Request, Scheme, Secret, Verified};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn verify(
    scheme: &Scheme,
    headers: &[(&str, &[u8])],
    body: &str,
    secrets: &[&str],
) -> Result<Verified, Rejection> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    let request = Request { method: "POST", url: "/hooks/x", headers: &headers, body: body.as_bytes() };
    let now = Timestamp::from_second(1_614_265_330).expect("in range");
    scheme.verify(&request, &secrets, Some(now))
}

#[test]
fn the_owner_is_told_why() {
    let scheme = Scheme::builtin("standard-webhooks", &Map::new()).expect("a scheme");
    let check = |id: &[u8], time: &[u8], signature: &[u8], secrets: &[&str], expected: &str| {
        let headers = [("Webhook-Id", id), ("Webhook-Timestamp", time), ("Webhook-Signature", signature)];
        let reason = verify(&scheme, &headers, "{}", secrets).expect_err("a rejection").to_string();
        assert_eq!(reason, expected);
    };
    let now = b"1614265330";
    check(b"m", now, b"v1,AAAA", &[], "no secret is configured, or one is empty");
    check(b"m", now, b"v1,AAAA", &[SECRET, ""], "no secret is configured, or one is empty");
    check(
        b"m",
        now,
        b"v1,AAAA",
        &[SECRET, "a b"],
        "secret 2 of the list cannot be used: it is not valid base64",
    );
    let short = "secret 1 of the list cannot be used: an Ed25519 key has 32 bytes (public) or 64 (private and public)";
    check(b"m", now, b"v1,AAAA", &["whpk_AAAA"], short);
    check(b"", now, b"v1,AAAA", &[SECRET], "header webhook-id is missing or empty");
    let separator = "header webhook-id is malformed: it holds the separator of the signed message";
    check(b"a.b", now, b"v1,AAAA", &[SECRET], separator);
    let long = "header webhook-id is malformed: it is not plain text of at most 255 bytes";
    check(&[b'x'; 256], now, b"v1,AAAA", &[SECRET], long);
    check(b"\xff", now, b"v1,AAAA", &[SECRET], long);
    check(b"a\x01", now, b"v1,AAAA", &[SECRET], long);
    let number = "header webhook-timestamp is malformed: it is not a time in whole seconds since 1970";
    check(b"m", b"now", b"v1,AAAA", &[SECRET], number);
    check(b"m", b"1614265000", b"v1,AAAA", &[SECRET], "timestamp is 330 s away, more than the 300 s allowed");
    check(
        b"m",
        b"1614266330",
        b"v1,AAAA",
        &[SECRET],
        "timestamp is 1000 s away, more than the 300 s allowed",
    );
    check(b"m", now, b"v1,AAAA", &[SECRET], "signature does not match");
    check(b"m", now, b"v1,\xff", &[SECRET], "signature does not match");
}

#[test]
fn what_is_verified_names_its_secret_and_its_delivery() {
    let scheme = Scheme::builtin("standard-webhooks", &Map::new()).expect("a scheme");
    let headers: [(&str, &[u8]); 3] = [
        ("webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", b"1614265330"),
        ("webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let verified = verify(&scheme, &headers, r#"{"test": 2432232314}"#, &[other, SECRET, SECRET]);
    let id = Some("msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned());
    let expected =
        Verified { secret: 1, delivery_id: id.clone(), event_type: None, dedupe_key: id, replay_key: None };
    assert_eq!(verified, Ok(expected));
}

#[test]
fn the_scheme_says_how_a_second_delivery_is_recognised() {
    let check = |dedupe: &str, id: &str, expected: Option<&str>| {
        let options = json!({"header": "X-S", "delivery_id": "X-Id", "dedupe": dedupe});
        let scheme = Scheme::builtin("hmac", options.as_object().expect("a table")).expect("good options");
        let secret = Secret::new("k");
        let signed = scheme.sign(&secret, b"{}", id, "", Timestamp::UNIX_EPOCH).expect("signs");
        let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let verified = verify(&scheme, &headers, "{}", &["k"]).expect("what was signed");
        assert_eq!(verified.dedupe_key.as_deref(), expected, "{dedupe} {id:?}");
    };
    check("delivery_id", "d-1", Some("d-1"));
    check("delivery_id", "", None);
    // SHA-256 of `{}`.
    check("message", "d-1", Some("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"));
    check("never", "d-1", None);
}

#[test]
fn a_scheme_that_recognises_no_duplicate_warns() {
    let check = |options: serde_json::Value, expected: usize| {
        let scheme = Scheme::builtin("hmac", options.as_object().expect("a table")).expect("good options");
        assert_eq!(scheme.warnings().len(), expected, "{options} {:?}", scheme.warnings());
    };
    check(json!({"header": "X-S"}), 1);
    check(json!({"header": "X-S", "delivery_id": "X-Id"}), 0);
    check(json!({"header": "X-S", "dedupe": "message"}), 0);
    check(json!({"header": "X-S", "replay": "strict"}), 0);
    assert!(Scheme::builtin("github", &Map::new()).expect("a scheme").warnings().is_empty());
}

#[test]
fn a_scheme_that_signs_nothing_or_shows_its_secret_warns() {
    let check = |scheme: &str, options: serde_json::Value, expected: &[&str]| {
        let scheme = Scheme::builtin(scheme, options.as_object().expect("a table")).expect("good options");
        let warnings = scheme.warnings();
        assert!(expected.iter().all(|part| warnings.iter().any(|one| one.contains(part))), "{warnings:?}");
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    };
    check("telegram", json!({}), &["does not sign the body"]);
    check("docker-hub", json!({}), &["does not sign the body", "(?token=..)"]);
    check("docker-hub", json!({"parameter": "key"}), &["does not sign the body", "(?key=..)"]);
    check("mailgun", json!({}), &["time and token are signed, the event is not"]);
    // A signature in the address is no secret.
    check("pandadoc", json!({}), &[]);
}

#[test]
fn strict_replay_goes_by_what_is_signed() {
    let key = |scheme: &str, options: serde_json::Value, headers: &[(&str, &[u8])], body: &str, url: &str| {
        let scheme = Scheme::builtin(scheme, options.as_object().expect("a table")).expect("good options");
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        let request = Request { method: "POST", url, headers: &headers, body: body.as_bytes() };
        let verified = scheme.verify(&request, &[Secret::new("12345")], None).expect("authentic");
        (verified.dedupe_key.expect("a key"), verified.replay_key)
    };
    // Another id, another case of the hex digits: the same bytes were signed.
    let github = |id: &[u8], upper: bool| {
        let scheme = Scheme::builtin("github", &Map::new()).expect("a scheme");
        let signed =
            scheme.sign(&Secret::new("12345"), b"{}", "d", "push", Timestamp::UNIX_EPOCH).expect("signs");
        let signature =
            signed.iter().find(|(name, _)| name == "x-hub-signature-256").expect("signed").1.clone();
        let digits = signature.trim_start_matches("sha256=");
        let digits = if upper { digits.to_uppercase() } else { digits.to_owned() };
        let signature = format!("sha256={digits}");
        let headers: [(&str, &[u8]); 2] =
            [("x-github-delivery", id), ("x-hub-signature-256", signature.as_bytes())];
        key("github", json!({"replay": "strict"}), &headers, "{}", "/")
    };
    // The id counts as before; the second key is that of what was signed.
    let ((first, signed), (second, again)) = (github(b"d-1", false), github(b"d-2", true));
    assert_eq!((first.as_str(), second.as_str()), ("d-1", "d-2"));
    assert!(signed.is_some());
    assert_eq!(signed, again);
    // A form that is escaped otherwise.
    let form = "application/x-www-form-urlencoded".as_bytes();
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let twilio = |body: &str| {
        let headers: [(&str, &[u8]); 2] =
            [("content-type", form), ("x-twilio-signature", b"RSOYDt4T1cUTdK1PDd93/VVr8B8=")];
        key("twilio", json!({"replay": "strict"}), &headers, body, url)
    };
    let body =
        "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
    let other =
        "Digits=1234&CallSid=%43A1234567890ABCDE&From=%2b14158675309&To=%2B18005551212&Caller=%2B14158675309";
    assert_eq!(twilio(body), twilio(other));
}

#[test]
fn strict_replay_knows_a_signed_id_again_however_often_it_is_signed() {
    let options = json!({"replay": "strict"});
    let scheme = Scheme::builtin("stripe", options.as_object().expect("a table")).expect("good options");
    let secret = Secret::new("whsec_k");
    let keys = |second: i64| {
        let now = Timestamp::from_second(second).expect("a time");
        let headers = scheme.sign(&secret, br#"{"id":"evt_1"}"#, "", "", now).expect("signs");
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let request = Request { method: "POST", url: "/", headers: &headers, body: br#"{"id":"evt_1"}"# };
        let verified = scheme.verify(&request, std::slice::from_ref(&secret), Some(now)).expect("authentic");
        (verified.dedupe_key, verified.replay_key)
    };
    let ((first, signed), (second, again)) = (keys(1_700_000_000), keys(1_700_000_100));
    assert_eq!((first.as_deref(), second.as_deref()), (Some("evt_1"), Some("evt_1")));
    assert_ne!(signed, again, "the time is signed");
}

#[test]
fn strict_replay_needs_no_second_key_where_the_first_is_what_was_signed() {
    let key = |options: serde_json::Value| {
        let scheme = Scheme::builtin("hmac", options.as_object().expect("a table")).expect("good options");
        let headers = scheme.sign(&Secret::new("k"), b"{}", "", "", Timestamp::UNIX_EPOCH).expect("signs");
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let request = Request { method: "POST", url: "/", headers: &headers, body: b"{}" };
        let verified = scheme.verify(&request, &[Secret::new("k")], None).expect("authentic");
        (verified.dedupe_key.is_some(), verified.replay_key)
    };
    assert_eq!(key(json!({"header": "X-S", "replay": "strict", "dedupe": "message"})), (true, None));
    assert_eq!(key(json!({"header": "X-S", "replay": "strict", "dedupe": "never"})), (true, None));
    assert_eq!(key(json!({"header": "X-S", "dedupe": "never"})), (false, None));
}

#[test]
fn a_key_that_must_be_fetched_is_told_with_its_address() {
    let options = json!({"webhook_id": "W"});
    let scheme = Scheme::builtin("paypal", options.as_object().expect("a table")).expect("good options");
    let check = |address: &str, expected: &str| {
        let headers = [
            ("PAYPAL-CERT-URL".to_owned(), address.as_bytes().to_vec()),
            ("PAYPAL-TRANSMISSION-SIG".to_owned(), b"AAAA".to_vec()),
            ("PAYPAL-TRANSMISSION-TIME".to_owned(), b"2026-01-15T10:20:41Z".to_vec()),
        ];
        let request = Request { method: "POST", url: "/", headers: &headers, body: b"{}" };
        let reason = scheme.verify(&request, &[], None).expect_err("no key").to_string();
        assert!(reason.contains(expected), "{reason}");
    };
    check(
        "https://api.paypal.com/v1/notifications/certs/1",
        "its key is published at https://api.paypal.com/v1/notifications/certs/1",
    );
    check(
        "https://api.paypal.com.evil.example/v1/notifications/certs/1",
        "it is not an https address at api.paypal.com or",
    );
    check("http://api.paypal.com/v1/notifications/certs/1", "it is not an https address");
}
