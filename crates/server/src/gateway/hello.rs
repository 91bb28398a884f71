//! The first words of a connection: what is taken for a hello, and how anything else is turned away.

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use hetuflow_core::protocol::{self, FromAgent, Hello, Join, ToAgent};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Timing, writer};

/// What can be read of a hello of any version.
#[derive(Deserialize)]
struct AnyHello {
    protocol: u16,
}

/// How a connection may begin.
pub(super) enum First {
    Hello(Hello),
    Join(Join),
}

pub(super) async fn read(socket: &mut WebSocket) -> Result<First, String> {
    let first = match socket.recv().await {
        Some(Ok(Message::Text(text))) => text,
        Some(Ok(_)) => return Err("the first message must be a hello, as JSON text".to_owned()),
        Some(Err(_)) | None => return Err("the connection ended before its hello".to_owned()),
    };
    check_version(first.as_str())?;
    match serde_json::from_str(first.as_str()) {
        Ok(FromAgent::Hello(hello)) => Ok(First::Hello(hello)),
        Ok(FromAgent::Join(join)) => Ok(First::Join(join)),
        Ok(_) => Err("the first message must be a hello".to_owned()),
        Err(error) => Err(format!("the hello cannot be read: {error}")),
    }
}

fn check_version(text: &str) -> Result<(), String> {
    // No number: the reading of the whole says what is wrong.
    let Ok(AnyHello { protocol }) = serde_json::from_str(text) else { return Ok(()) };
    let older = match protocol.cmp(&protocol::VERSION) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => "agent",
        std::cmp::Ordering::Greater => "server",
    };
    Err(format!(
        "the agent speaks protocol {protocol}, this server speaks protocol {}: upgrade the {older}",
        protocol::VERSION
    ))
}

/// Whether the agent that said hello still hears: it answers a ping, before anything else was said to it.
pub(super) async fn is_there(socket: &mut WebSocket, timing: Timing) -> bool {
    let proof = Bytes::copy_from_slice(&rand::random::<u64>().to_be_bytes());
    let asked = async {
        socket.send(Message::Ping(proof.clone())).await.ok()?;
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Pong(answer) if answer == proof) {
                return Some(());
            }
        }
        None
    };
    timeout(timing.hello, asked).await.is_ok_and(|answer| answer.is_some())
}

pub(super) async fn joined(socket: &mut WebSocket) -> Result<(), String> {
    let gone = |_| "the connection ended before its hello".to_owned();
    socket.send(writer::encode(&ToAgent::Joined)).await.map_err(gone)
}

pub(super) async fn refuse(mut socket: WebSocket, reason: String, timing: Timing) {
    tracing::info!(reason, "agent refused");
    let message = writer::encode(&ToAgent::Refuse { reason });
    let goodbye = async {
        if socket.send(message).await.is_ok() {
            // Its side of the closing handshake shows that the reason was read.
            let _ = socket.send(Message::Close(None)).await;
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(timing.hello, goodbye).await;
}
