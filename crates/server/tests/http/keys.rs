//! Keys that senders publish: fetched over TLS from a server that stands for theirs, by a proxy that stands for the way there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use hetuflow_core::Clock;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _, SigningKey as _};
use reqwest::{Response, StatusCode};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::world::{World, json};

const SNS: &str = "sns.eu-west-1.amazonaws.com";
const KEYS: &str = "keys.example";

/// What is published, by `host/path`: a status and a body.
#[derive(Clone, Default)]
struct Published {
    pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    asked: Arc<AtomicUsize>,
}

impl Published {
    fn put(&self, address: &str, status: u16, body: &str) {
        self.pages.lock().expect("whole").insert(address.to_owned(), (status, body.to_owned()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Its certificate is for both hosts; the proxy leads here, whatever the host.
    async fn serve(&self) -> (String, NamedTempFile) {
        let names = [SNS, KEYS].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .expect("fits");
        let authorities = NamedTempFile::new().expect("a file");
        std::fs::write(authorities.path(), made.cert.pem()).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let proxy = format!("http://{}", listener.local_addr().expect("an address"));
        let (acceptor, own) = (TlsAcceptor::from(Arc::new(config)), self.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().tunnel(stream, acceptor.clone()));
            }
        });
        (proxy, authorities)
    }

    /// `CONNECT host:443`, and behind it the sender's own server.
    async fn tunnel(self, mut stream: TcpStream, acceptor: TlsAcceptor) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        let host = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next()).expect("a host");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a request");
        let path = line.split(' ').nth(1).expect("a path").to_owned();
        while stream.read_line(&mut line).await.expect("a head") > 2 {}
        self.asked.fetch_add(1, Ordering::SeqCst);
        let page = self.pages.lock().expect("whole").get(&format!("{host}{path}")).cloned();
        let (status, body) = page.unwrap_or((404, String::new()));
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

async fn world(name: &str, text: &str) -> (World, Published, NamedTempFile) {
    let published = Published::default();
    let (proxy, authorities) = published.serve().await;
    let world = World::with(|config| {
        config.hooks.key_proxy = proxy;
        authorities.path().clone_into(&mut config.hooks.key_authorities);
    })
    .await;
    world.write_trigger(name, &format!("{text}\n[job]\ncmd = \"true\"\n"));
    world.trigger_until(name, |trigger| trigger["problem"].is_null()).await;
    (world, published, authorities)
}

fn topic_hook() -> &'static str {
    "[on.webhook]\nscheme = \"sns\"\noptions = { topic = \"arn:aws:sns:eu-west-1:1:t\" }\n"
}

/// A notification as Amazon signs it, whose certificate is said to be at `url`.
fn notification(key: &KeyPair, id: &str, url: &str) -> String {
    let now = Clock::system().now().to_string();
    let topic = "arn:aws:sns:eu-west-1:1:t";
    let signed =
        format!("Message\nhello\nMessageId\n{id}\nTimestamp\n{now}\nTopicArn\n{topic}\nType\nNotification\n");
    let signature = BASE64_STANDARD.encode(key.sign(signed.as_bytes()).expect("signed"));
    json!({
        "Type": "Notification", "Message": "hello", "MessageId": id, "Timestamp": now, "TopicArn": topic,
        "SignatureVersion": "2", "Signature": signature, "SigningCertURL": url,
    })
    .to_string()
}

async fn deliver(world: &World, hook: &str, body: String) -> Response {
    let request = world.client.post(world.hook(hook)).header("content-type", "text/plain; charset=UTF-8");
    request.body(body).send().await.expect("an answer")
}

#[tokio::test]
async fn a_certificate_is_fetched_once_from_where_the_delivery_says_if_that_is_the_senders() {
    let (world, published, _authorities) = world("topic", topic_hook()).await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let certificate = CertificateParams::new(vec![SNS.to_owned()]).expect("a name").self_signed(&key);
    published.put(
        &format!("{SNS}/SimpleNotificationService-a.pem"),
        200,
        &certificate.expect("a certificate").pem(),
    );
    let url = format!("https://{SNS}/SimpleNotificationService-a.pem");

    for id in ["m-1", "m-2"] {
        let response = deliver(&world, "topic", notification(&key, id, &url)).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let event = json(response).await["event_id"].as_str().expect("an id").to_owned();
        assert_eq!(world.get(&format!("events/{event}")).await["secret"], format!("url {url}"));
    }
    assert_eq!(published.asked(), 1);

    // Somebody else's key at somebody else's address.
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let elsewhere = notification(&other, "m-3", &format!("https://{KEYS}/SimpleNotificationService-a.pem"));
    assert_eq!(deliver(&world, "topic", elsewhere).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(published.asked(), 1, "nobody asks there");
    // Of a signature that does not fit nobody learns more, and Amazon is not asked for each.
    let forged = notification(&other, "m-4", &url);
    assert_eq!(deliver(&world, "topic", forged).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(published.asked(), 1);
}

#[tokio::test]
async fn who_cannot_be_verified_now_is_told_to_come_again() {
    let (world, published, _authorities) = world("topic", topic_hook()).await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let large = "x".repeat(65 * 1024);
    for (page, status, body) in [
        ("SimpleNotificationService-gone.pem", 404, ""),
        ("SimpleNotificationService-moved.pem", 302, ""),
        ("SimpleNotificationService-large.pem", 200, large.as_str()),
    ] {
        published.put(&format!("{SNS}/{page}"), status, body);
        let url = format!("https://{SNS}/{page}");
        let (before, begin) = (published.asked(), Instant::now());
        for _ in 0..3 {
            let response = deliver(&world, "topic", notification(&key, "m-1", &url)).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{page}");
            assert!(response.headers().contains_key("retry-after"));
        }
        // Failures are remembered for ten seconds.
        let pauses = usize::try_from(begin.elapsed().as_secs() / 10).expect("few");
        assert!(published.asked() <= before + 1 + pauses, "{page}");
    }
    // What is there, but is no key, may be a mistake that passes.
    published.put(&format!("{SNS}/SimpleNotificationService-text.pem"), 200, "hello");
    let text = notification(&key, "m-1", &format!("https://{SNS}/SimpleNotificationService-text.pem"));
    assert_eq!(deliver(&world, "topic", text).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Those that nobody could judge left nothing behind.
    assert_eq!(world.get("events").await["items"], json!([]));
}

/// Telnyx signs `{timestamp}|{body}` with Ed25519.
async fn telnyx(world: &World, key: &KeyPair, id: &str) -> StatusCode {
    let now = Clock::system().now().as_second().to_string();
    let body = json!({"data": {"id": id, "event_type": "message.received"}}).to_string();
    let signature = key.sign(format!("{now}|{body}").as_bytes()).expect("signed");
    let request = world
        .client
        .post(world.hook("calls"))
        .header("telnyx-timestamp", now)
        .header("telnyx-signature-ed25519", BASE64_STANDARD.encode(signature));
    request.body(body).send().await.expect("an answer").status()
}

fn set_of(keys: &[&KeyPair]) -> String {
    let key = |key: &&KeyPair| json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(key.der_bytes())});
    json!({"keys": keys.iter().map(key).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn whoever_names_many_addresses_keeps_no_other_key_away() {
    let hook =
        format!("[on.webhook]\nscheme = \"telnyx\"\nsecret = {{ url = \"https://{KEYS}/jwks.json\" }}\n");
    let (world, published, _authorities) = world("calls", &hook).await;
    world.write_trigger("topic", &format!("{}\n[job]\ncmd = \"true\"\n", topic_hook()));
    world.trigger_until("topic", |trigger| trigger["problem"].is_null()).await;
    let unsigned = json!({"SigningCertURL": format!("https://{SNS}/SimpleNotificationService-0.pem")});
    assert_eq!(deliver(&world, "topic", unsigned.to_string()).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(published.asked(), 0, "nobody asks for what no key can prove");
    let forger = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    for n in 0..34 {
        let url = format!("https://{SNS}/SimpleNotificationService-{n}.pem");
        let answer = deliver(&world, "topic", notification(&forger, "m-1", &url)).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    published.put(&format!("{KEYS}/jwks.json"), 200, &set_of(&[&key]));
    assert_eq!(telnyx(&world, &key, "1").await, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_page_without_a_key_takes_the_place_of_none() {
    let hook =
        format!("[on.webhook]\nscheme = \"telnyx\"\nsecret = {{ url = \"https://{KEYS}/jwks.json\" }}\n");
    let (world, published, _authorities) = world("calls", &hook).await;
    let [key, other] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).expect("a key"));
    published.put(&format!("{KEYS}/jwks.json"), 200, &set_of(&[&key]));
    assert_eq!(telnyx(&world, &key, "1").await, StatusCode::ACCEPTED);
    published.put(&format!("{KEYS}/jwks.json"), 200, "{\"keys\":[]}");
    let begin = Instant::now();
    while published.asked() < 2 {
        assert_eq!(telnyx(&world, &other, "2").await, StatusCode::UNAUTHORIZED);
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody asks again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(telnyx(&world, &key, "3").await, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_set_of_keys_at_an_address_changes_with_its_sender() {
    let hook =
        format!("[on.webhook]\nscheme = \"telnyx\"\nsecret = {{ url = \"https://{KEYS}/jwks.json\" }}\n");
    let (world, published, _authorities) = world("calls", &hook).await;
    let [first, second] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).expect("a key"));
    published.put(&format!("{KEYS}/jwks.json"), 200, &set_of(&[&first]));
    assert_eq!(telnyx(&world, &first, "1").await, StatusCode::ACCEPTED);
    assert_eq!(telnyx(&world, &second, "2").await, StatusCode::UNAUTHORIZED);
    published.put(&format!("{KEYS}/jwks.json"), 200, &set_of(&[&second]));
    let begin = Instant::now();
    // Not at every attempt: what does not fit is no reason to ask again and again.
    while telnyx(&world, &second, "2").await != StatusCode::ACCEPTED {
        assert!(begin.elapsed() < Duration::from_secs(20), "the new key is never found");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(telnyx(&world, &first, "3").await, StatusCode::UNAUTHORIZED);
    assert!(published.asked() <= 3);
    let hooks = world.get("triggers/calls").await;
    assert_eq!(hooks["secrets"][0]["usable"], true, "{hooks:#}");
}

#[tokio::test]
async fn a_key_of_ones_own_needs_no_address_beside_it() {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), BASE64_STANDARD.encode(key.der_bytes())).expect("written");
    let file = file.path().display();
    let secrets = format!("[{{ file = \"{file}\" }}, {{ url = \"https://{KEYS}/gone.json\" }}]");
    let hook = format!("[on.webhook]\nscheme = \"telnyx\"\nsecret = {secrets}\n");
    let (world, published, _authorities) = world("calls", &hook).await;
    assert_eq!(telnyx(&world, &key, "1").await, StatusCode::ACCEPTED);
    assert_eq!(published.asked(), 0);
    // Whether a stranger is one of those who are published there, nobody can tell now.
    let other = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    assert_eq!(telnyx(&world, &other, "2").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(published.asked(), 1);
}

#[tokio::test]
async fn a_secret_that_both_share_is_not_published() {
    let world = World::new().await;
    let text = "[on.webhook]\nscheme = \"github\"\nsecret = { url = \"https://keys.example/x\" }\n[job]\ncmd = \"true\"\n";
    world.write_trigger("wrong", text);
    let problem =
        world.trigger_until("wrong", |trigger| !trigger["problem"].is_null()).await["problem"].to_string();
    assert!(problem.contains("signs with a secret that only you and the sender know"), "{problem}");
}
