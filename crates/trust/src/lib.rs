//! By what server and agent know each other: the key that each of them has, the TLS connection that proves it, and the
//! token by which an agent that is not known yet joins. The only crate that knows TLS; `server` and `agent` use it, and the
//! CLI to look at what is there.
//!
//! TLS 1.3 and nothing older. An agent shows a certificate that it signed itself: of it only the key counts, and
//! the server decides elsewhere whom that key belongs to. A server is known by its key too (a *pin*), or by a certificate
//! that an authority has signed, where the agent's configuration names one. Nothing is trusted because it came first.

mod client;
mod identity;
mod key_file;
mod server;
mod token;

use std::sync::Arc;

use hetuflow_core::fingerprint::Fingerprint;
use rustls::{
    Error,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

pub use client::{AuthoritiesError, Connector, Known, authorities};
pub use identity::{Identity, IdentityError};
pub use key_file::{KeyFileError, keep_private};
pub use rustls::{RootCertStore, pki_types::InvalidDnsNameError};
pub use server::{Acceptor, is_handshake};
pub use token::{JoinToken, NoToken, hash};
pub use tokio_rustls::client::TlsStream;

/// The cryptography of every connection; named each time, because nothing is set for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Of the key in a certificate, whatever else the certificate says.
fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    Ok(fingerprint_of_key(&key_in(certificate)?))
}

/// The public key as the certificate has it, with its algorithm.
fn key_in(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|_| Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
    Ok(parsed.subject_public_key_info().to_vec())
}

fn fingerprint_of_key(key: &[u8]) -> Fingerprint {
    Fingerprint(sha256(key))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}
