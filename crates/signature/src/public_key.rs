//! The forms in which owners have public keys: PEM (a key or a certificate), DER in base64 or hex, bare bytes, JSON
//! web keys. Which form it is shows in the text itself.

use serde::Deserialize;
use x509_cert::{
    Certificate,
    der::{AnyRef, Decode as _, Encode as _, pem},
    spki::{ObjectIdentifier, SubjectPublicKeyInfoRef},
};

use crate::encoding::Encoding;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What a secret is, before an algorithm takes it for a key.
#[derive(Debug)]
pub(crate) enum Material {
    Bytes(Vec<u8>),
    Public(PublicKey),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Ed25519(Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
    RsaDer(Vec<u8>),
    RsaNumbers {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// A public key with what stands beside it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) material: Material,
    /// Of a JSON web key.
    pub(crate) id: Option<String>,
    /// Of a certificate: seconds since 1970.
    pub(crate) valid: Option<(i64, i64)>,
}

impl PublicKey {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "an Ed25519 key",
            Self::P256(_) => "a key on the curve P-256",
            Self::RsaDer(_) | Self::RsaNumbers { .. } => "an RSA key",
        }
    }
}

/// Every public key in `text`. `encoding` is how bytes are written where nothing else shows it.
pub(crate) fn read(text: &[u8], encoding: Option<Encoding>) -> Result<Vec<Published>, String> {
    let text = text.trim_ascii();
    if text.starts_with(b"-----BEGIN") {
        return pem_key(text).map(|key| vec![key]);
    }
    if text.starts_with(b"{") {
        return web_keys(text);
    }
    let bytes = match encoding {
        None => text.to_vec(),
        Some(encoding) => {
            encoding.decode(text).ok_or_else(|| format!("it is not valid {}", encoding.name()))?
        }
    };
    let material = match spki(&bytes) {
        Ok(key) => Material::Public(key),
        Err(_) => Material::Bytes(bytes),
    };
    Ok(vec![Published { material, id: None, valid: None }])
}

/// The first block: of a chain, that is the signer's own certificate.
fn pem_key(text: &[u8]) -> Result<Published, String> {
    let end = text.windows(9).position(|window| window == b"-----END ").unwrap_or(text.len());
    let line = text[end..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| end + at + 1);
    let (label, der) =
        pem::decode_vec(&text[..line]).map_err(|error| format!("its PEM cannot be read: {error}"))?;
    let (key, valid) = match label {
        "PUBLIC KEY" => (spki(&der)?, None),
        "RSA PUBLIC KEY" => (PublicKey::RsaDer(der), None),
        "CERTIFICATE" => certificate(&der)?,
        other => return Err(format!("its PEM holds a {other}: give a PUBLIC KEY or a CERTIFICATE")),
    };
    Ok(Published { material: Material::Public(key), id: None, valid })
}

fn certificate(der: &[u8]) -> Result<(PublicKey, Option<(i64, i64)>), String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("its certificate cannot be read: {error}");
    let certificate = Certificate::from_der(der).map_err(|error| unreadable(&error))?.tbs_certificate;
    let info = certificate.subject_public_key_info.to_der().map_err(|error| unreadable(&error))?;
    let seconds =
        |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    let valid = (seconds(&certificate.validity.not_before), seconds(&certificate.validity.not_after));
    Ok((spki(&info)?, Some(valid)))
}

fn spki(der: &[u8]) -> Result<PublicKey, String> {
    let info =
        SubjectPublicKeyInfoRef::from_der(der).map_err(|error| format!("it is not a public key: {error}"))?;
    let bytes = info.subject_public_key.as_bytes().ok_or("its public key has no whole bytes")?.to_vec();
    let curve = info.algorithm.parameters_oid().ok();
    let null = info.algorithm.parameters.is_some_and(AnyRef::is_null);
    match (info.algorithm.oid, curve) {
        (RSA, None) if null => Ok(PublicKey::RsaDer(bytes)),
        (ED25519, None) => Ok(PublicKey::Ed25519(bytes)),
        (EC, Some(P256)) => Ok(PublicKey::P256(bytes)),
        _ => Err("its public key is neither RSA, nor on the curve P-256, nor Ed25519".to_owned()),
    }
}

#[derive(Deserialize)]
struct WebKeySet {
    keys: Vec<WebKey>,
}

/// RFC 7517. What else such a key says of itself is left to whoever pinned it.
#[derive(Deserialize)]
struct WebKey {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Keys of other kinds in a set are left out.
fn web_keys(text: &[u8]) -> Result<Vec<Published>, String> {
    let unreadable = |error| format!("it is neither a JSON web key nor a set of them: {error}");
    let keys = match serde_json::from_slice::<WebKeySet>(text) {
        Ok(set) => set.keys,
        Err(_) => vec![serde_json::from_slice::<WebKey>(text).map_err(unreadable)?],
    };
    let keys: Vec<Published> = keys.into_iter().filter_map(WebKey::published).collect();
    if keys.is_empty() {
        return Err("it holds no RSA, P-256 or Ed25519 key".to_owned());
    }
    Ok(keys)
}

impl WebKey {
    fn published(self) -> Option<Published> {
        let number = |text: Option<String>| Encoding::Base64Url.decode(text?.as_bytes());
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let (x, y) = (number(self.x)?, number(self.y)?);
                PublicKey::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(number(self.x)?),
            ("RSA", _) => PublicKey::RsaNumbers { n: number(self.n)?, e: number(self.e)? },
            _ => return None,
        };
        // A token that names its key does not fit one that has no name.
        Some(Published {
            material: Material::Public(key),
            id: Some(self.kid.unwrap_or_default()),
            valid: None,
        })
    }
}
