//! The algorithms by which messages are signed. Which one counts is the scheme's word, never the request's.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::{Choice, ConstantTimeEq as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hmac(Hash),
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    /// Only where a scheme says `legacy = true`.
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    pub(crate) const NAMES: [&str; 5] = ["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512", "ed25519"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "hmac-sha1" => Some(Self::Hmac(Hash::Sha1)),
            "hmac-sha256" => Some(Self::Hmac(Hash::Sha256)),
            "hmac-sha384" => Some(Self::Hmac(Hash::Sha384)),
            "hmac-sha512" => Some(Self::Hmac(Hash::Sha512)),
            "ed25519" => Some(Self::Ed25519),
            _ => None,
        }
    }
}

/// A key that is ready for its algorithm.
pub(crate) enum Key {
    /// The same key signs and verifies.
    Hmac(Hash, Vec<u8>),
    /// Verifies only.
    Public(VerifyingKey),
    /// Private and public half.
    Pair(SigningKey),
}

/// What one key makes of one message, to be compared with every signature that came.
pub(crate) enum Expected {
    Mac(Vec<u8>),
    Ed25519 { key: VerifyingKey, message: Vec<u8> },
}

impl Key {
    /// The error says what is wrong with the bytes without showing them.
    pub(crate) fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Result<Self, String> {
        match algorithm {
            Algorithm::Hmac(hash) => Ok(Self::Hmac(hash, bytes)),
            Algorithm::Ed25519 => Self::ed25519(&bytes),
        }
    }

    fn ed25519(bytes: &[u8]) -> Result<Self, String> {
        let invalid = |_| "it is not a valid Ed25519 key".to_owned();
        if let Ok(public) = <&[u8; 32]>::try_from(bytes) {
            VerifyingKey::from_bytes(public).map(Self::Public).map_err(invalid)
        } else if let Ok(pair) = <&[u8; 64]>::try_from(bytes) {
            SigningKey::from_keypair_bytes(pair).map(Self::Pair).map_err(invalid)
        } else {
            Err("an Ed25519 key has 32 bytes (public) or 64 (private and public)".to_owned())
        }
    }

    pub(crate) fn expect(&self, message: &[&[u8]]) -> Expected {
        match self {
            Self::Hmac(hash, key) => Expected::Mac(hmac(*hash, key, message)),
            Self::Public(key) => Expected::Ed25519 { key: *key, message: message.concat() },
            Self::Pair(pair) => Expected::Ed25519 { key: pair.verifying_key(), message: message.concat() },
        }
    }

    /// `None` when this key can only verify.
    pub(crate) fn sign(&self, message: &[&[u8]]) -> Option<Vec<u8>> {
        match self {
            Self::Hmac(hash, key) => Some(hmac(*hash, key, message)),
            Self::Public(_) => None,
            Self::Pair(pair) => Some(pair.sign(&message.concat()).to_bytes().to_vec()),
        }
    }
}

impl Expected {
    /// Constant time in the signature's bytes; one of another length does not match.
    pub(crate) fn matches(&self, signature: &[u8]) -> Choice {
        match self {
            Self::Mac(mac) => mac.as_slice().ct_eq(signature),
            Self::Ed25519 { key, message } => {
                let valid = Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok());
                Choice::from(u8::from(valid))
            }
        }
    }
}

fn hmac(hash: Hash, key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    match hash {
        Hash::Sha1 => mac::<Hmac<Sha1>>(key, message),
        Hash::Sha256 => mac::<Hmac<Sha256>>(key, message),
        Hash::Sha384 => mac::<Hmac<Sha384>>(key, message),
        Hash::Sha512 => mac::<Hmac<Sha512>>(key, message),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length");
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
