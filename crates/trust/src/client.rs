//! The agent's side: it shows its key, and talks only to a server that it knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hetuflow_core::fingerprint::Fingerprint;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Identity, fingerprint_of, provider};

/// Which servers are known.
#[derive(Debug, Clone)]
pub enum Known {
    /// Those with one of these keys, whatever their names.
    Pins(Vec<Fingerprint>),
    /// Those for whose name one of these authorities has signed.
    Authorities(Arc<RootCertStore>),
}

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("cannot read the certificates {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate in PEM that can be used", .path.display())]
    None { path: PathBuf },
}

/// The authorities in a PEM file. One that cannot be used among many does no harm.
pub fn authorities(path: &Path) -> Result<Arc<RootCertStore>, AuthoritiesError> {
    let text =
        fs::read(path).map_err(|source| AuthoritiesError::Unreadable { path: path.to_owned(), source })?;
    let mut store = RootCertStore::empty();
    let (added, _) =
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    if added == 0 { Err(AuthoritiesError::None { path: path.to_owned() }) } else { Ok(Arc::new(store)) }
}

impl Connector {
    pub fn new(identity: &Identity, known: Known) -> Result<Self, Error> {
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match known {
            Known::Pins(pins) => Arc::new(Pinned { pins, provider: Arc::clone(&provider) }),
            Known::Authorities(roots) => {
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
        config.resumption = Resumption::disabled();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// `host` is what the agent dialled: a name, or an address. Sets no deadline.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.tls.connect(name, stream).await.map_err(plainly)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A stranger is named as such, without what TLS says around it.
fn plainly(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(stranger)))) => {
            io::Error::other(stranger.to_string())
        }
        Some(_) | None => error,
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "its key is {0}, which this agent does not know: another server answers there, or its key was made anew"
)]
struct Stranger(Fingerprint);

#[derive(Debug)]
struct Pinned {
    pins: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = fingerprint_of(end_entity)?;
        if self.pins.contains(&shown) {
            return Ok(ServerCertVerified::assertion());
        }
        let stranger = OtherError(Arc::new(Stranger(shown)));
        Err(Error::InvalidCertificate(CertificateError::Other(stranger)))
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
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
