//! The server's side: every connection shows a key, and proves that it has it. Whether that key may do anything is
//! not decided here.

use std::{io, sync::Arc};

use hetuflow_core::fingerprint::Fingerprint;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Identity, fingerprint_of, key_in, provider};

/// The algorithm at the head of an Ed25519 key as certificates have it; the key's 32 bytes follow.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const ED25519_LENGTH: usize = ED25519.len() + 32;

/// Takes handshakes.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    fingerprint: Fingerprint,
}

/// Whether a connection that begins with this byte begins with a TLS handshake. No HTTP request does.
#[must_use]
pub const fn is_handshake(first: u8) -> bool {
    first == 0x16
}

impl Acceptor {
    pub fn new(identity: &Identity) -> Result<Self, Error> {
        let provider = provider();
        let verifier = Arc::new(AnyKey { provider: Arc::clone(&provider) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
        // Every connection proves its key anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), fingerprint: identity.fingerprint() })
    }

    /// The server's own.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The connection, and the key at its other end. Sets no deadline.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Fingerprint)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.tls.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.ok_or_else(|| io::Error::other("no certificate was shown"))?;
        let fingerprint = fingerprint_of(certificate).map_err(io::Error::other)?;
        Ok((stream, fingerprint))
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Takes every Ed25519 key that signs the handshake. Names, dates and signatures in the certificate are not looked
/// at: nobody has vouched for them.
#[derive(Debug)]
struct AnyKey {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = key_in(end_entity)?;
        if key.len() == ED25519_LENGTH && key.starts_with(&ED25519) {
            return Ok(ClientCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
