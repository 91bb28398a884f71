//! A secret in memory: never printed, never compared with `==`. And how it becomes the key of a scheme.

use std::fmt;

use crate::{Rejection, Scheme, algorithm::Key, scheme::SignatureRule};

#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key, and the one rule that it may be used for.
pub(crate) struct RuledKey<'s> {
    pub(crate) rule: &'s SignatureRule,
    pub(crate) key: Key,
}

impl Scheme {
    /// Whether `secret` can be a key of this scheme: what [`Scheme::verify`] would find, but when it is loaded.
    /// The error is a fragment (`it is empty`) that does not show the secret.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        self.key(secret).map(drop)
    }

    /// The keys of all secrets. One that cannot be used is an error even where another would match: it is a
    /// mistake of the owner's, and silence would hide it until the other one is taken away.
    pub(crate) fn keys(&self, secrets: &[Secret]) -> Result<Vec<RuledKey<'_>>, Rejection> {
        if secrets.is_empty() || secrets.iter().any(Secret::is_empty) {
            return Err(Rejection::NoSecret);
        }
        let key = |(place, secret)| self.key(secret).map_err(|why| Rejection::BadSecret { place, why });
        secrets.iter().enumerate().map(key).collect()
    }

    /// A secret is the key of the one rule whose prefix it has, so that a public key, which anyone may know,
    /// is never the key of an HMAC. Without a prefix it belongs to the first rule.
    pub(crate) fn key(&self, secret: &Secret) -> Result<RuledKey<'_>, String> {
        if secret.is_empty() {
            return Err("it is empty".to_owned());
        }
        let (rule, encoded) = self
            .signatures
            .iter()
            .find_map(|rule| Some((rule, without_prefix(rule, &secret.0)?)))
            .unwrap_or((&self.signatures[0], &secret.0));
        let bytes = match rule.key_encoding {
            None => encoded.to_vec(),
            Some(encoding) => {
                encoding.decode(encoded).ok_or_else(|| format!("it is not valid {}", encoding.name()))?
            }
        };
        if bytes.is_empty() {
            return Err("it has no bytes after its prefix".to_owned());
        }
        Key::new(rule.algorithm, bytes).map(|key| RuledKey { rule, key })
    }
}

impl Secret {
    /// White space alone protects no more than nothing does.
    fn is_empty(&self) -> bool {
        self.0.iter().all(u8::is_ascii_whitespace)
    }
}

fn without_prefix<'k>(rule: &SignatureRule, secret: &'k [u8]) -> Option<&'k [u8]> {
    rule.key_prefixes.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes()))
}
