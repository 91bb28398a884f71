//! The algorithms by which messages are signed. Which one counts is the scheme's word, never the request's.

use std::borrow::Cow;

use aws_lc_rs::signature::{self, VerificationAlgorithm};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// The secret itself is sent.
    Equality,
    Hmac(Hash),
    Ed25519,
    /// Over SHA-256; the signature in ASN.1, or as two numbers side by side as tokens have it.
    EcdsaP256(EcdsaForm),
    /// PKCS #1 v1.5.
    Rsa(Hash),
    /// The signature is a JSON web token, which signs itself.
    Jwt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    /// Only where a scheme says `legacy = true`.
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EcdsaForm {
    Asn1,
    Fixed,
}

const NAMED: [(&str, Algorithm); 13] = [
    ("equality", Algorithm::Equality),
    ("hmac-sha1", Algorithm::Hmac(Hash::Sha1)),
    ("hmac-sha224", Algorithm::Hmac(Hash::Sha224)),
    ("hmac-sha256", Algorithm::Hmac(Hash::Sha256)),
    ("hmac-sha384", Algorithm::Hmac(Hash::Sha384)),
    ("hmac-sha512", Algorithm::Hmac(Hash::Sha512)),
    ("ed25519", Algorithm::Ed25519),
    ("ecdsa-p256", Algorithm::EcdsaP256(EcdsaForm::Asn1)),
    ("rsa-sha1", Algorithm::Rsa(Hash::Sha1)),
    ("rsa-sha256", Algorithm::Rsa(Hash::Sha256)),
    ("rsa-sha384", Algorithm::Rsa(Hash::Sha384)),
    ("rsa-sha512", Algorithm::Rsa(Hash::Sha512)),
    ("jwt", Algorithm::Jwt),
];

impl Algorithm {
    pub(crate) fn names() -> Vec<&'static str> {
        NAMED.iter().map(|(name, _)| *name).collect()
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Of a token's `alg`. There is no `none`.
    pub(crate) fn from_token(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hmac(Hash::Sha256)),
            "HS384" => Some(Self::Hmac(Hash::Sha384)),
            "HS512" => Some(Self::Hmac(Hash::Sha512)),
            "ES256" => Some(Self::EcdsaP256(EcdsaForm::Fixed)),
            "RS256" => Some(Self::Rsa(Hash::Sha256)),
            "RS384" => Some(Self::Rsa(Hash::Sha384)),
            "RS512" => Some(Self::Rsa(Hash::Sha512)),
            "EdDSA" => Some(Self::Ed25519),
            _ => None,
        }
    }

    pub(crate) const TOKEN_NAMES: [&str; 8] =
        ["HS256", "HS384", "HS512", "ES256", "RS256", "RS384", "RS512", "EdDSA"];

    pub(crate) const fn is_legacy(self) -> bool {
        matches!(self, Self::Hmac(Hash::Sha1) | Self::Rsa(Hash::Sha1))
    }

    /// Whether anyone may know the key.
    pub(crate) const fn is_public(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256(_) | Self::Rsa(_))
    }
}

impl Hash {
    pub(crate) const NAMES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];
        Self::NAMES.iter().position(|known| *known == name).map(|at| all[at])
    }

    pub(crate) fn digest(self, parts: &[Cow<'_, [u8]>]) -> Vec<u8> {
        match self {
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha224 => digest::<Sha224>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }

    pub(crate) fn hmac(self, key: &[u8], message: &[Cow<'_, [u8]>]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, message),
            Self::Sha224 => mac::<Hmac<Sha224>>(key, message),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, message),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, message),
        }
    }

    /// For RSA: keys of 2048 bits and more. `None` where nobody signs so.
    pub(crate) fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::Sha1 => Some(&signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha224 => None,
            Self::Sha256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Sha384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Sha512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        }
    }
}

impl EcdsaForm {
    pub(crate) fn p256(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Asn1 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::Fixed => &signature::ECDSA_P256_SHA256_FIXED,
        }
    }
}

fn digest<D: Digest>(parts: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().to_vec()
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[Cow<'_, [u8]>]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length");
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
