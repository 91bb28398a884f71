//! A key and the certificate that shows it. What is kept is the key: the certificate that goes with a key of our own says
//! nothing else, and is made from it at each start.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use hetuflow_core::fingerprint::Fingerprint;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use x509_cert::der::Decode as _;

use crate::{fingerprint_of, key_file, key_file::KeyFileError};

pub struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("cannot read the certificate {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate in PEM", .path.display())]
    NoCertificate { path: PathBuf },
    #[error("there is no key {}", .path.display())]
    NoKey { path: PathBuf },
    #[error("the key {} cannot be used: {reason}", .path.display())]
    Unusable { path: PathBuf, reason: String },
}

impl Identity {
    /// The key in this file, made (Ed25519, mode 0600) when there is none.
    pub fn kept(path: &Path) -> Result<Self, IdentityError> {
        if key_file::read(path)?.is_none() {
            Self::make(path)?;
        }
        Self::existing(path)
    }

    /// The key in this file, or that there is none.
    pub fn existing(path: &Path) -> Result<Self, IdentityError> {
        let key = key_file::read(path)?.ok_or_else(|| IdentityError::NoKey { path: path.to_owned() })?;
        let unusable = |reason: String| IdentityError::Unusable { path: path.to_owned(), reason };
        let pair = KeyPair::try_from(&key).map_err(|error| unusable(error.to_string()))?;
        let certificate = self_signed(&pair).map_err(|error| unusable(error.to_string()))?;
        Self::new(vec![certificate], key).map_err(unusable)
    }

    /// A new key in this file, in the place of one that may be there.
    pub fn make(path: &Path) -> Result<(), IdentityError> {
        let made = KeyPair::generate_for(&PKCS_ED25519);
        let pair = made
            .map_err(|error| IdentityError::Unusable { path: path.to_owned(), reason: error.to_string() })?;
        Ok(key_file::write(path, pair.serialized_der())?)
    }

    /// A key of which nothing is left afterwards, for who only looks.
    pub fn passing() -> Result<Self, IdentityError> {
        let unusable = |reason| IdentityError::Unusable { path: PathBuf::new(), reason };
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|error| unusable(error.to_string()))?;
        let certificate = self_signed(&pair).map_err(|error| unusable(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(pair.serialized_der().to_vec()).into();
        Self::new(vec![certificate], key).map_err(unusable)
    }

    /// A key and a certificate (with those above it) that somebody else has made.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let text = fs::read(certificate)
            .map_err(|source| IdentityError::Unreadable { path: certificate.to_owned(), source })?;
        let no_certificate = || IdentityError::NoCertificate { path: certificate.to_owned() };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
        if chain.is_empty() {
            return Err(no_certificate());
        }
        let private = key_file::read(key)?.ok_or_else(|| IdentityError::NoKey { path: key.to_owned() })?;
        Self::new(chain, private).map_err(|reason| IdentityError::Unusable { path: key.to_owned(), reason })
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, String> {
        let fingerprint = fingerprint_of(&chain[0]).map_err(|error| error.to_string())?;
        let signing =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        rustls::sign::CertifiedKey::new(chain.clone(), signing)
            .keys_match()
            .map_err(|_| "it does not belong to the certificate".to_owned())?;
        Ok(Self { chain, key, fingerprint })
    }

    /// Until when its certificate is good, for those who ask an authority.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        let certificate = x509_cert::Certificate::from_der(self.chain.first()?).ok()?;
        let until = certificate.tbs_certificate.validity.not_after.to_unix_duration();
        SystemTime::UNIX_EPOCH.checked_add(until)
    }

    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn self_signed(pair: &KeyPair) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["hetuflow".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hetuflow");
    Ok(params.self_signed(pair)?.der().clone())
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_known_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        assert!(matches!(Identity::existing(&path), Err(IdentityError::NoKey { .. })));
        let first = Identity::kept(&path).expect("made").fingerprint();
        assert_eq!(Identity::kept(&path).expect("read").fingerprint(), first);
        Identity::make(&path).expect("made anew");
        assert_ne!(Identity::existing(&path).expect("read").fingerprint(), first);
    }
}
