//! Keys that are ready for their algorithm, and what they make of a message.

use std::borrow::Cow;

use aws_lc_rs::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    algorithm::{Algorithm, EcdsaForm, Hash},
    public_key::{Material, PublicKey},
    template::Parts,
};

/// One key. What a secret holds can be several (a set of public keys).
pub(crate) enum Key {
    Equality(Vec<u8>),
    /// The same key signs and verifies.
    Hmac(Hash, Vec<u8>),
    Ed25519(VerifyingKey),
    /// Private and public half.
    Pair(SigningKey),
    /// A point.
    EcdsaP256(EcdsaForm, Vec<u8>),
    Rsa(Hash, RsaKey),
}

pub(crate) enum RsaKey {
    /// Modulus and exponent in DER.
    Der(Vec<u8>),
    Numbers {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// What one key makes of one message, to be compared with every signature that came.
pub(crate) enum Expected<'k> {
    Bytes(Cow<'k, [u8]>),
    Public { key: &'k Key, message: Vec<u8> },
}

impl Key {
    /// The error says what is wrong with the bytes without showing them.
    pub(crate) fn new(algorithm: Algorithm, material: Material) -> Result<Self, String> {
        match (algorithm, material) {
            (Algorithm::Equality, Material::Bytes(bytes)) => Ok(Self::Equality(bytes)),
            (Algorithm::Hmac(hash), Material::Bytes(bytes)) => Ok(Self::Hmac(hash, bytes)),
            (Algorithm::Ed25519, Material::Bytes(bytes) | Material::Public(PublicKey::Ed25519(bytes))) => {
                Self::ed25519(&bytes)
            }
            (
                Algorithm::EcdsaP256(form),
                Material::Bytes(point) | Material::Public(PublicKey::P256(point)),
            ) => Self::p256(form, point),
            // A sequence, as all keys in DER; what follows is looked at when something is verified.
            (Algorithm::Rsa(_), Material::Bytes(bytes)) if bytes.first() != Some(&0x30) => {
                Err("it is not an RSA public key".to_owned())
            }
            (Algorithm::Rsa(hash), Material::Public(PublicKey::RsaDer(der)) | Material::Bytes(der)) => {
                Ok(Self::Rsa(hash, RsaKey::Der(der)))
            }
            (Algorithm::Rsa(hash), Material::Public(PublicKey::RsaNumbers { n, e })) => {
                Ok(Self::Rsa(hash, RsaKey::Numbers { n, e }))
            }
            (Algorithm::Jwt, _) => Err("a token names its own algorithm".to_owned()),
            (_, Material::Public(key)) => {
                Err(format!("it is {}, of another kind than the scheme's", key.kind()))
            }
        }
    }

    fn p256(form: EcdsaForm, point: Vec<u8>) -> Result<Self, String> {
        if point.len() == 65 && point[0] == 4 {
            return Ok(Self::EcdsaP256(form, point));
        }
        Err("it is not a public key on the curve P-256".to_owned())
    }

    fn ed25519(bytes: &[u8]) -> Result<Self, String> {
        let invalid = |_| "it is not a valid Ed25519 key".to_owned();
        if let Ok(public) = <&[u8; 32]>::try_from(bytes) {
            VerifyingKey::from_bytes(public).map(Self::Ed25519).map_err(invalid)
        } else if let Ok(pair) = <&[u8; 64]>::try_from(bytes) {
            SigningKey::from_keypair_bytes(pair).map(Self::Pair).map_err(invalid)
        } else {
            Err("an Ed25519 key has 32 bytes (public) or 64 (private and public)".to_owned())
        }
    }

    pub(crate) fn expect(&self, message: &Parts<'_>) -> Expected<'_> {
        match self {
            Self::Equality(secret) => Expected::Bytes(Cow::Borrowed(secret)),
            Self::Hmac(hash, key) => Expected::Bytes(Cow::Owned(hash.hmac(key, message))),
            Self::Ed25519(_) | Self::Pair(_) | Self::EcdsaP256(..) | Self::Rsa(..) => {
                Expected::Public { key: self, message: message.concat() }
            }
        }
    }

    /// `None` when this key can only verify.
    pub(crate) fn sign(&self, message: &Parts<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Equality(secret) => Some(secret.clone()),
            Self::Hmac(hash, key) => Some(hash.hmac(key, message)),
            Self::Pair(pair) => Some(pair.sign(&message.concat()).to_bytes().to_vec()),
            Self::Ed25519(_) | Self::EcdsaP256(..) | Self::Rsa(..) => None,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let ed25519 = |key: &VerifyingKey| {
            Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
        };
        match self {
            Self::Equality(_) | Self::Hmac(..) => false,
            Self::Ed25519(key) => ed25519(key),
            Self::Pair(pair) => ed25519(&pair.verifying_key()),
            Self::EcdsaP256(form, point) => {
                UnparsedPublicKey::new(form.p256(), point).verify(message, signature).is_ok()
            }
            Self::Rsa(hash, key) => hash.rsa().is_some_and(|parameters| match key {
                RsaKey::Der(der) => {
                    UnparsedPublicKey::new(parameters, der).verify(message, signature).is_ok()
                }
                RsaKey::Numbers { n, e } => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
                }
            }),
        }
    }
}

impl Expected<'_> {
    /// Constant time in the signature's bytes; one of another length does not match.
    pub(crate) fn matches(&self, signature: &[u8]) -> Choice {
        match self {
            Self::Bytes(bytes) => bytes.ct_eq(signature),
            Self::Public { key, message } => Choice::from(u8::from(key.verifies(message, signature))),
        }
    }
}
