//! Handshakes over real sockets: who is taken, by whom, and what each side learns.

use std::{io, path::Path, sync::Arc};

use hetuflow_core::fingerprint::Fingerprint;
use hetuflow_trust::{Acceptor, Connector, Identity, Known, authorities};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn identity(&self, name: &str) -> Identity {
        Identity::kept(&self.dir.path().join(name)).expect("a key")
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        hetuflow_trust::keep_private(&path, text.as_bytes()).expect("written");
        path
    }
}

/// Both ends of one connection.
async fn wire() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dialled = TcpStream::connect(listener.local_addr().expect("bound"));
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.expect("connected"), accepted.expect("accepted").0)
}

/// What the server takes the client for, after a word in each direction.
async fn meet(server: &Identity, client: &Connector, host: &str) -> Result<Fingerprint, String> {
    let acceptor = Acceptor::new(server).expect("a server");
    let (near, far) = wire().await;
    let dialled = async {
        let mut stream = client.connect(host, near).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await
    };
    let accepted = async {
        let (mut stream, key) = acceptor.accept(far).await?;
        let said = stream.read_u8().await?;
        stream.write_u8(said).await?;
        stream.flush().await?;
        io::Result::Ok(key)
    };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    match (dialled, accepted) {
        (Ok(b'x'), Ok(key)) => Ok(key),
        (Ok(other), _) => panic!("{other} came back"),
        (Err(error), _) => Err(error.to_string()),
    }
}

fn pinned(client: &Identity, server: Fingerprint) -> Connector {
    Connector::new(client, Known::Pins(vec![Fingerprint([7; 32]), server])).expect("a client")
}

#[tokio::test]
async fn each_side_is_known_by_its_key() {
    let place = Place::new();
    let (server, agent) = (place.identity("server"), place.identity("agent"));
    for host in ["127.0.0.1", "[::1]", "any.name.example"] {
        let met = meet(&server, &pinned(&agent, server.fingerprint()), host).await;
        assert_eq!(met, Ok(agent.fingerprint()), "{host}");
    }
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_by_its_name() {
    let place = Place::new();
    let (server, foreign, agent) =
        (place.identity("server"), place.identity("foreign"), place.identity("agent"));
    let error =
        meet(&foreign, &pinned(&agent, server.fingerprint()), "127.0.0.1").await.expect_err("refused");
    assert!(error.starts_with(&format!("its key is {}", foreign.fingerprint())), "{error}");
}

/// A certificate for `name` and its key, and the authority that signed it.
fn signed(place: &Place, name: &str) -> (Identity, std::path::PathBuf) {
    let ca_key = KeyPair::generate().expect("a key");
    let ca = ca_params().self_signed(&ca_key).expect("signed");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = params.signed_by(&key, &Issuer::from_params(&ca_params(), &ca_key)).expect("signed");
    let certificate = place.write("server.crt", &pem("CERTIFICATE", certificate.der()));
    let private = place.write("server.key", &pem("PRIVATE KEY", key.serialized_der()));
    let identity = Identity::of_files(&certificate, &private).expect("they go together");
    (identity, place.write("ca.crt", &pem("CERTIFICATE", ca.der())))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn pem(what: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn a_server_is_known_by_an_authority_and_its_name() {
    let place = Place::new();
    let agent = place.identity("agent");
    let (server, ca) = signed(&place, "hub.example");
    let known = |path: &Path| Known::Authorities(authorities(path).expect("an authority"));
    let client = Connector::new(&agent, known(&ca)).expect("a client");
    assert_eq!(meet(&server, &client, "hub.example").await, Ok(agent.fingerprint()));
    assert!(meet(&server, &client, "other.example").await.is_err(), "another name");

    let elsewhere = Place::new();
    let (_, other_ca) = signed(&elsewhere, "hub.example");
    let client = Connector::new(&agent, known(&other_ca)).expect("a client");
    assert!(meet(&server, &client, "hub.example").await.is_err(), "another authority");
    assert!(authorities(&place.write("none.crt", "none")).is_err());
    let (certificate, key) = (place.dir.path().join("server.crt"), elsewhere.dir.path().join("server.key"));
    let error = Identity::of_files(&certificate, &key).expect_err("they do not go together").to_string();
    assert!(error.contains("does not belong to the certificate"), "{error}");
}

/// What the server makes of a client that shows this certificate, or none, and signs with this key, whether it fits or not.
/// It takes any server.
async fn shows(server: &Identity, certificate: Option<&[u8]>, key: &KeyPair) -> Result<Fingerprint, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let config = match certificate {
        Some(certificate) => {
            let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()).into();
            let signing = aws_lc_rs::sign::any_supported_type(&private).expect("a key");
            let shown = rustls::sign::CertifiedKey::new(vec![certificate.to_vec().into()], signing);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
        }
        None => builder.with_no_client_auth(),
    };
    let acceptor = Acceptor::new(server).expect("a server");
    let (near, far) = wire().await;
    let name = ServerName::try_from("hub.example").expect("a name");
    let dialled = async {
        // In TLS 1.3 the client hears of a refusal only when it reads.
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, near).await?;
        stream.read_u8().await
    };
    let accepted = async { acceptor.accept(far).await.map(|(_, key)| key) };
    let (_, accepted) = tokio::join!(dialled, accepted);
    accepted.map_err(|error| error.to_string())
}

#[tokio::test]
async fn only_a_proved_key_of_the_right_kind_is_taken() {
    let place = Place::new();
    let server = place.identity("server");
    let certificate = |key: &KeyPair| {
        let params = CertificateParams::new(vec!["hub.example".to_owned()]).expect("parameters");
        params.self_signed(key).expect("signed").der().to_vec()
    };
    let key = |kind| KeyPair::generate_for(kind).expect("a key");
    let (own, thief, other_kind) = (key(&PKCS_ED25519), key(&PKCS_ED25519), key(&PKCS_ECDSA_P256_SHA256));
    let shown = certificate(&own);
    let taken = shows(&server, Some(&shown), &own).await;
    assert!(taken.is_ok(), "{taken:?}");
    let refused = async |what: &str, certificate: Option<&[u8]>, key: &KeyPair| {
        let taken = shows(&server, certificate, key).await;
        assert!(taken.is_err(), "{what}: {taken:?}");
    };
    refused("no certificate", None, &own).await;
    refused("a stolen certificate, without its key", Some(&shown), &thief).await;
    refused("another kind of key", Some(&certificate(&other_kind)), &other_kind).await;
    refused("half a certificate", Some(&shown[..100]), &own).await;
    refused("no certificate at all", Some(b"?"), &own).await;
}

#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
