//! Agents of other machines at the listener: half handshakes and torn ones, tokens, and who is let through without TLS.

use std::{net::SocketAddr, time::Duration};

use hetuflow_core::fingerprint::Fingerprint;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::world::World;

async fn facing_a_network() -> (World, SocketAddr, tempfile::TempDir) {
    let tls = tempfile::tempdir().expect("a folder");
    let directory = tls.path().to_owned();
    let world = World::with(|config| {
        config.server.websocket_port = "0.0.0.0:0".parse::<SocketAddr>().expect("an address").into();
        config.tls.directory = directory;
    })
    .await;
    let place = SocketAddr::from(([127, 0, 0, 1], world.server.addresses().agents.port()));
    (world, place, tls)
}

/// What comes back until the end.
async fn answer(place: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(place).await.expect("connected");
    stream.write_all(said).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it ends");
    // A reset is an end too.
    let _ = read;
    answer
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_cut() {
    let (world, place, _tls) = facing_a_network().await;
    let begun = Instant::now();
    // The head of a record, and nothing of what it announces.
    let answer = answer(place, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await;
    assert_eq!(answer, b"");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "sooner than a request would be: {:?}",
        begun.elapsed()
    );
    assert_eq!(world.server.state.metrics.handshakes_failed.get(), 1);
}

#[tokio::test]
async fn what_is_no_handshake_ends_at_once() {
    let (world, place, _tls) = facing_a_network().await;
    for said in [&[0x16_u8; 600][..], &[0x16, 3, 3, 0, 1, 0], b"\x16\x03\x01\x00\x05hello"] {
        // An alert is all that may come.
        assert!(answer(place, said).await.len() < 16);
    }
    assert_eq!(world.server.state.metrics.handshakes_failed.get(), 3);
}

#[tokio::test]
async fn over_loopback_agents_come_without_tls_as_before() {
    let (_world, place, _tls) = facing_a_network().await;
    let request = format!("GET /agent/v1 HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n");
    let answer = String::from_utf8(answer(place, request.as_bytes()).await).expect("text");
    // It is no upgrade, and is told so: it came through.
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.starts_with("HTTP/1.1 403"), "{answer}");
    let request = "GET /agent/v1 HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = String::from_utf8(self::answer(place, request.as_bytes()).await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn a_token_is_made_once_and_for_an_hour_at_most() {
    let (world, ..) = facing_a_network().await;
    let (status, made) = world.post("agent-tokens", json!({ "labels": { "role": "web" } })).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert!(made["token"].as_str().is_some_and(|token| token.starts_with("hetuflow-join-")), "{made}");
    assert_eq!(made["servers"].as_array().map(Vec::len), Some(1));
    for wrong in [json!({ "expires": "2h" }), json!({ "expires": 0 }), json!({ "label": {} })] {
        assert_eq!(world.post("agent-tokens", wrong.clone()).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(world.post("agents/nobody/revoke", json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_key_of_a_server_is_forgotten_once() {
    let (world, ..) = facing_a_network().await;
    let another = Fingerprint([7; 32]);
    world.server.state.store.know_server(another).await.expect("kept");
    let known = async || {
        let answer = world.get("servers").await;
        let items = answer["items"].as_array().expect("a list").clone();
        assert!(items.iter().all(|server| server["last_seen_at"].is_string()), "{answer}");
        items.iter().filter_map(|server| Some(server["fingerprint"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let keys = known().await;
    assert!(keys.len() == 2 && keys.contains(&another.to_string()), "{keys:?}");
    let forget = async |key: &str| {
        let url = world.api(&format!("servers/{key}"));
        world.client.delete(url).send().await.expect("an answer").status()
    };
    assert_eq!(forget(&another.to_string()).await, StatusCode::NO_CONTENT);
    assert_eq!(forget(&another.to_string()).await, StatusCode::NOT_FOUND);
    assert_eq!(forget("sha256:12").await, StatusCode::BAD_REQUEST);
    assert_eq!(known().await.len(), 1);
}

#[tokio::test]
async fn a_server_on_loopback_makes_no_tokens_and_no_key() {
    let tls = tempfile::tempdir().expect("a folder");
    let directory = tls.path().join("tls");
    let world = World::with(|config| config.tls.directory.clone_from(&directory)).await;
    let (status, refused) = world.post("agent-tokens", json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("websocket_port")), "{refused}");
    assert!(!directory.exists());
}
