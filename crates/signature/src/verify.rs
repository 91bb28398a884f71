//! Judges one request. Step 3 of the walk: nothing else looks at a body before this has.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::Choice;

use crate::{
    Scheme, Secret,
    message::Value,
    place::{MAX_VALUE, Place, is_plain},
    scheme::{Dedupe, SignatureRule, TimestampRule, Unit},
};

/// More signatures than any provider sends while it rotates its keys.
const MAX_SIGNATURES: usize = 8;

/// What was received, untouched.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, as received.
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
}

/// Why a request is not authentic. For the owner of the hook; the sender only learns 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no secret is configured, or one is empty")]
    NoSecret,
    /// By its place in the list, from 0, as in [`Verified::secret`].
    #[error("secret {} of the list cannot be used: {why}", .place + 1)]
    BadSecret { place: usize, why: String },
    #[error("header {0} is missing or empty")]
    MissingHeader(String),
    #[error("header {0} came more than once")]
    RepeatedHeader(String),
    #[error("header {0} is malformed: {1}")]
    MalformedHeader(String, String),
    #[error("timestamp is {0} s away, more than the {1} s allowed")]
    Timestamp(i64, i64),
    #[error("signature does not match")]
    Mismatch,
}

/// What the headers say, read but not yet proven.
pub(crate) struct Head<'a> {
    headers: &'a [(String, Vec<u8>)],
    /// Empty where the scheme has none.
    id: &'a str,
    timestamp: &'a str,
    event_type: &'a str,
}

impl Scheme {
    /// `now` is `None` where the age of timestamps shall not be judged (vectors, replays).
    pub fn verify(
        &self,
        request: &Request<'_>,
        secrets: &[Secret],
        now: Option<Timestamp>,
    ) -> Result<Verified, Rejection> {
        let keys = self.keys(secrets)?;
        let head = self.read(request.headers, now)?;
        let message = self.message.fill(head.id, head.timestamp, request.body);
        let mut matched = None;
        // No early exit: how long it takes does not tell which secret or which signature was the right one.
        for (n, ruled) in keys.iter().enumerate() {
            let expected = ruled.key.expect(&message);
            let mut hit = Choice::from(0);
            for signature in head.signatures(ruled.rule)? {
                hit |= expected.matches(&signature);
            }
            matched = matched.or(bool::from(hit).then_some(n));
        }
        let secret = matched.ok_or(Rejection::Mismatch)?;
        let event_type = value(self.delivery.event_type.as_ref(), head.event_type, request.body);
        let delivery_id = value(self.delivery.id.as_ref(), head.id, request.body);
        let dedupe_key = match self.delivery.dedupe {
            Dedupe::DeliveryId => delivery_id.clone(),
            Dedupe::Message => Some(digest(&message)),
            Dedupe::Never => None,
        };
        Ok(Verified { secret, delivery_id, event_type, dedupe_key })
    }

    /// What can be judged before the body is read: every header that the scheme reads is there as often as
    /// it must be and well-formed, and the timestamp is near enough.
    pub fn check_headers(
        &self,
        headers: &[(String, Vec<u8>)],
        now: Option<Timestamp>,
    ) -> Result<(), Rejection> {
        self.read(headers, now).map(drop)
    }

    fn read<'a>(
        &self,
        headers: &'a [(String, Vec<u8>)],
        now: Option<Timestamp>,
    ) -> Result<Head<'a>, Rejection> {
        for name in self.required_headers() {
            if single(headers, &name)?.is_none_or(<[u8]>::is_empty) {
                return Err(Rejection::MissingHeader(name));
            }
        }
        let mut head = Head { headers, id: "", timestamp: "", event_type: "" };
        if let Some(rule) = &self.timestamp {
            head.timestamp = text(headers, &rule.header)?.unwrap_or_default();
            rule.judge(head.timestamp, now)?;
        }
        if let Some(Place::Header(name)) = &self.delivery.id {
            head.id = text(headers, name)?.unwrap_or_default();
            if !self.message.admits(Value::Id, head.id) {
                return Err(malformed(name, "it holds the separator of the signed message"));
            }
        }
        if let Some(Place::Header(name)) = &self.delivery.event_type {
            head.event_type = text(headers, name)?.unwrap_or_default();
        }
        Ok(head)
    }

    pub(crate) fn signed_id_header(&self) -> Option<&str> {
        match &self.delivery.id {
            Some(Place::Header(name)) if self.message.holds(Value::Id) => Some(name),
            Some(Place::Header(_) | Place::Body(_)) | None => None,
        }
    }
}

/// A value that was read from a header, or is in the body of a verified request. An empty one is none: as an
/// id it would make one event of all deliveries that lack it.
fn value(place: Option<&Place>, header: &str, body: &[u8]) -> Option<String> {
    match place? {
        Place::Header(_) => Some(header.to_owned()).filter(|value| !value.is_empty()),
        Place::Body(pointer) => pointer.find(body),
    }
}

impl Head<'_> {
    /// The signatures that `rule` can read; what it cannot decode is left out, for it matches nothing.
    fn signatures(&self, rule: &SignatureRule) -> Result<Vec<Vec<u8>>, Rejection> {
        let value = single(self.headers, &rule.header)?.unwrap_or_default();
        let value = str::from_utf8(value).map_err(|_| malformed(&rule.header, "it is not text"))?;
        let items: Vec<&str> = match &rule.separator {
            Some(separator) => value.split(separator.as_str()).take(MAX_SIGNATURES + 1).collect(),
            None => vec![value],
        };
        if items.len() > MAX_SIGNATURES {
            return Err(malformed(&rule.header, format!("it holds more than {MAX_SIGNATURES} signatures")));
        }
        let decode = |item: &str| rule.encoding.decode(item.strip_prefix(&rule.prefix)?.as_bytes());
        Ok(items.into_iter().filter_map(decode).collect())
    }
}

impl TimestampRule {
    fn judge(&self, value: &str, now: Option<Timestamp>) -> Result<(), Rejection> {
        let unit = match self.unit {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
        };
        let wrong = || malformed(&self.header, format!("it is not a time in whole {unit} since 1970"));
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let sent: i64 = value.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        let Some(now) = now else { return Ok(()) };
        let (now, per_second) = match self.unit {
            Unit::Seconds => (now.as_second(), 1),
            Unit::Milliseconds => (now.as_millisecond(), 1000),
        };
        let away = now.saturating_sub(sent).saturating_abs();
        let allowed = i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX);
        if away > allowed.saturating_mul(per_second) {
            return Err(Rejection::Timestamp(away / per_second, allowed));
        }
        Ok(())
    }
}

/// The header's value, if it is there; twice is once too often, since two readers could pick different ones.
fn single<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Result<Option<&'a [u8]>, Rejection> {
    let mut values =
        headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Rejection::RepeatedHeader(name.to_owned())),
        (value, None) => Ok(value.map(Vec::as_slice)),
    }
}

fn text<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Result<Option<&'a str>, Rejection> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    match str::from_utf8(value) {
        Ok(value) if is_plain(value) => Ok(Some(value)),
        Ok(_) | Err(_) => Err(malformed(name, format!("it is not plain text of at most {MAX_VALUE} bytes"))),
    }
}

fn malformed(header: &str, why: impl Into<String>) -> Rejection {
    Rejection::MalformedHeader(header.to_owned(), why.into())
}

fn digest(message: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in message {
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn verify(
        scheme: &Scheme,
        headers: &[(&str, &[u8])],
        body: &str,
        secrets: &[&str],
    ) -> Result<Verified, Rejection> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
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
        check(
            b"m",
            b"1614265000",
            b"v1,AAAA",
            &[SECRET],
            "timestamp is 330 s away, more than the 300 s allowed",
        );
        check(
            b"m",
            b"1614266330",
            b"v1,AAAA",
            &[SECRET],
            "timestamp is 1000 s away, more than the 300 s allowed",
        );
        check(b"m", now, b"v1,AAAA", &[SECRET], "signature does not match");
        check(b"m", now, b"v1,\xff", &[SECRET], "header webhook-signature is malformed: it is not text");
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
        let expected = Verified { secret: 1, delivery_id: id.clone(), event_type: None, dedupe_key: id };
        assert_eq!(verified, Ok(expected));
    }

    #[test]
    fn the_scheme_says_how_a_second_delivery_is_recognised() {
        let check = |dedupe: &str, id: &str, expected: Option<&str>| {
            let options = json!({"header": "X-S", "delivery_id": "X-Id", "dedupe": dedupe});
            let scheme =
                Scheme::builtin("hmac", options.as_object().expect("a table")).expect("good options");
            let secret = Secret::new("k");
            let signed = scheme.sign(&secret, b"{}", id, "", Timestamp::UNIX_EPOCH).expect("signs");
            let headers: Vec<_> =
                signed.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            let verified = verify(&scheme, &headers, "{}", &["k"]).expect("what was signed");
            assert_eq!(verified.dedupe_key.as_deref(), expected, "{dedupe} {id:?}");
        };
        check("delivery_id", "d-1", Some("d-1"));
        check("delivery_id", "", None);
        // SHA-256 of `{}`.
        check("message", "d-1", Some("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"));
        check("never", "d-1", None);
    }
}
