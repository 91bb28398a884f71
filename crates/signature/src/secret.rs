//! A secret in memory: never printed, never compared with `==`. And how it becomes the key of a scheme.

use std::fmt;

use crate::{
    Rejection, Scheme,
    algorithm::Algorithm,
    key::Key,
    public_key::{self, Material, Published},
    scheme::SignatureRule,
};

#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For whoever keeps a secret that a handshake brought.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// White space alone protects no more than nothing does.
    fn is_empty(&self) -> bool {
        self.0.iter().all(u8::is_ascii_whitespace)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key, the rules that it may be used for, and where it is from.
pub(crate) struct RuledKey {
    /// Of the rules that take this secret.
    pub(crate) family: usize,
    /// The place of its secret in the list.
    pub(crate) secret: usize,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: Key,
    /// Of a JSON web key.
    pub(crate) id: Option<String>,
    /// Of a certificate: seconds since 1970.
    pub(crate) valid: Option<(i64, i64)>,
}

impl Scheme {
    /// Whether `secret` can be a key of this scheme: what [`Scheme::verify`] would find, but when it is loaded.
    /// The error is a fragment (`it is empty`) that does not show the secret.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        if !self.signs_with(secret) {
            return Ok(());
        }
        self.secret_keys(0, secret).map(drop)
    }

    /// Whether signatures can be verified with what is there.
    #[must_use]
    pub fn takes(&self, key: &Secret) -> bool {
        self.keys(std::slice::from_ref(key)).is_ok()
    }

    /// The keys of all secrets. One that cannot be used is an error even where another would match: it is a
    /// mistake of the owner's, and silence would hide it until the other one is taken away.
    pub(crate) fn keys(&self, secrets: &[Secret]) -> Result<Vec<RuledKey>, Rejection> {
        let signing = secrets.iter().enumerate().filter(|(_, secret)| self.signs_with(secret));
        let mut keys = Vec::new();
        for (place, secret) in signing {
            if secret.is_empty() {
                return Err(Rejection::NoSecret);
            }
            keys.extend(self.secret_keys(place, secret).map_err(|why| Rejection::BadSecret { place, why })?);
        }
        if keys.is_empty() { Err(Rejection::NoSecret) } else { Ok(keys) }
    }

    /// A secret belongs to the rules whose prefix it has, so that a public key, which anyone may know,
    /// is never the key of an HMAC. Without a prefix it belongs to the first rule and its like.
    pub(crate) fn secret_keys(&self, place: usize, secret: &Secret) -> Result<Vec<RuledKey>, String> {
        if secret.is_empty() {
            return Err("it is empty".to_owned());
        }
        let (first, encoded) = self
            .signatures
            .iter()
            .find_map(|rule| Some((rule, without_prefix(rule, &secret.0)?)))
            .unwrap_or((&self.signatures[0], &secret.0));
        if encoded.is_empty() {
            return Err("it has no bytes after its prefix".to_owned());
        }
        let family = first.key.family;
        let mut keys = Vec::new();
        for algorithm in self.algorithms(family) {
            keys.extend(
                with_algorithm(first, algorithm, encoded)?.into_iter().map(|(key, id, valid)| RuledKey {
                    family,
                    secret: place,
                    algorithm,
                    key,
                    id,
                    valid,
                }),
            );
        }
        Ok(keys)
    }

    /// Those of all rules that take the same secrets; for tokens those that the rule admits.
    fn algorithms(&self, family: usize) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for rule in self.signatures.iter().filter(|rule| rule.key.family == family) {
            let tokens =
                rule.jwt.iter().flat_map(|jwt| jwt.algorithms.iter().map(|(_, algorithm)| *algorithm));
            let own = (rule.algorithm != Algorithm::Jwt).then_some(rule.algorithm);
            for algorithm in own.into_iter().chain(tokens) {
                if !algorithms.contains(&algorithm) {
                    algorithms.push(algorithm);
                }
            }
        }
        algorithms
    }
}

type Made = (Key, Option<String>, Option<(i64, i64)>);

fn with_algorithm(rule: &SignatureRule, algorithm: Algorithm, encoded: &[u8]) -> Result<Vec<Made>, String> {
    let published = if algorithm.is_public() {
        public_key::read(encoded, rule.key.encoding)?
    } else {
        let bytes = match rule.key.encoding {
            None => encoded.to_vec(),
            Some(encoding) => {
                encoding.decode(encoded).ok_or_else(|| format!("it is not valid {}", encoding.name()))?
            }
        };
        if bytes.is_empty() {
            return Err("it has no bytes after its prefix".to_owned());
        }
        vec![Published { material: Material::Bytes(bytes), id: None, valid: None }]
    };
    let several = published.len() > 1;
    let mut made = Vec::new();
    for one in published {
        match Key::new(algorithm, one.material) {
            Ok(key) => made.push((key, one.id, one.valid)),
            // A set may hold keys for other purposes.
            Err(_) if several => {}
            Err(why) => return Err(why),
        }
    }
    if made.is_empty() { Err("no key of it is of the scheme's kind".to_owned()) } else { Ok(made) }
}

fn without_prefix<'k>(rule: &SignatureRule, secret: &'k [u8]) -> Option<&'k [u8]> {
    rule.key.prefixes.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes()))
}
