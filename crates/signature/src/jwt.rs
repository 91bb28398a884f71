//! JSON web tokens (RFC 7519) that stand for a signature: the token signs itself, and one of its claims holds a hash
//! of the request.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Rejection, algorithm::Algorithm, encoding::Encoding};

/// A longer token is nobody's.
const MAX_TOKEN: usize = 16 * 1024;
/// By how much the clocks of sender and receiver may differ.
const LEEWAY: i64 = 60;

/// What the scheme says of its tokens.
#[derive(Debug, Clone)]
pub(crate) struct JwtRule {
    /// Names as in `alg`, with what they are.
    pub(crate) algorithms: Vec<(String, Algorithm)>,
    /// Claims that must have these values.
    pub(crate) claims: Map<String, Value>,
}

/// A token that was taken apart, not proven yet.
pub(crate) struct Token<'t> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What is signed.
    pub(crate) input: &'t [u8],
    pub(crate) signature: Vec<u8>,
    /// JSON.
    pub(crate) claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none are.
    crit: Option<Value>,
}

impl<'t> Token<'t> {
    /// `None`: it is no token of this rule.
    pub(crate) fn parse(text: &'t [u8], rule: &JwtRule) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let end = text.iter().rposition(|byte| *byte == b'.')?;
        let (input, signature) = (&text[..end], &text[end + 1..]);
        let middle = input.iter().position(|byte| *byte == b'.')?;
        let (header, claims) = (&input[..middle], &input[middle + 1..]);
        let header: Header = serde_json::from_slice(&Encoding::Base64Url.decode(header)?).ok()?;
        let (_, algorithm) = rule.algorithms.iter().find(|(name, _)| *name == header.alg)?;
        if header.crit.is_some() {
            return None;
        }
        Some(Self {
            algorithm: *algorithm,
            key_id: header.kid,
            input,
            signature: Encoding::Base64Url.decode(signature)?,
            claims: Encoding::Base64Url.decode(claims)?,
        })
    }
}

impl JwtRule {
    /// Of a token that is authentic: whether it is meant for us, and now (in seconds since 1970).
    pub(crate) fn judge(&self, claims: &[u8], now: Option<i64>) -> Result<(), Rejection> {
        let claims: Map<String, Value> = serde_json::from_slice(claims).map_err(|_| {
            Rejection::Malformed("token".to_owned(), "its claims are no JSON object".to_owned())
        })?;
        for (name, wanted) in &self.claims {
            let fits = match claims.get(name) {
                Some(Value::Array(list)) => list.contains(wanted),
                Some(value) => value == wanted,
                None => false,
            };
            if !fits {
                return Err(Rejection::Unmet(format!("the token's claim {name} is {wanted}")));
            }
        }
        let Some(now) = now else { return Ok(()) };
        self::time(&claims, "exp", |exp| now < exp.saturating_add(LEEWAY), now)?;
        self::time(&claims, "nbf", |nbf| now >= nbf.saturating_sub(LEEWAY), now)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction of a second does not matter; huge values saturate"
)]
fn time(
    claims: &Map<String, Value>,
    name: &str,
    fits: impl Fn(i64) -> bool,
    now: i64,
) -> Result<(), Rejection> {
    let Some(value) = claims.get(name) else { return Ok(()) };
    let time = value
        .as_i64()
        .or_else(|| value.as_f64().map(|time| time as i64))
        .ok_or_else(|| Rejection::Malformed(format!("claim {name}"), "it is not a time".to_owned()))?;
    if fits(time) { Ok(()) } else { Err(Rejection::Timestamp((now - time).abs(), LEEWAY)) }
}
