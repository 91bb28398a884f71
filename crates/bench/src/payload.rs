//! The event that every benchmark sends: JSON of a fixed size that begins with the time of its sending.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of an event's body.
pub(crate) const SIZE: usize = 1024;

pub(crate) const SECRET: &str = "the secret of this benchmark";

const BEFORE: &[u8] = br#"{"sent":""#;
const DIGITS: usize = 19;

/// `sent` is 0 where nobody asks when it was sent.
pub(crate) fn body(sent: u64) -> Vec<u8> {
    let head = format!(r#"{{"sent":"{sent:0>DIGITS$}","ref":"refs/heads/main","deleted":false,"filler":""#);
    let mut body = head.into_bytes();
    body.resize(SIZE - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

/// When it was sent; `None` where nobody asked, or for a body that is not ours.
pub(crate) fn sent(body: &[u8]) -> Option<u64> {
    let digits = body.strip_prefix(BEFORE)?.get(..DIGITS)?;
    let sent = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (sent > 0).then_some(sent)
}

/// As GitHub signs it.
pub(crate) fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_when_it_was_sent() {
        for sent in [1, 1_234_567_890_123, u64::from(u32::MAX)] {
            let body = body(sent);
            assert_eq!(body.len(), SIZE);
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "it is JSON");
            assert_eq!(super::sent(&body), Some(sent));
        }
        assert_eq!(sent(&body(0)), None);
        assert_eq!(sent(b"{}"), None);
    }
}
