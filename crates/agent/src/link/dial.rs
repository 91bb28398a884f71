//! To a server: the connection, TLS where its address says `wss://`, and the join of an agent that is not known yet.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hetuflow_core::protocol::{FromAgent, Join, MAX_MESSAGE, SUBPROTOCOL, ToAgent};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};
use tokio_util::either::Either;

use super::{Cut, Link, writer::Socket};
use crate::keys::{KeysError, is_tls};

/// To dial, to be welcomed, to say good-bye.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An agent lives next to the work of its host: it keeps no 128 KiB ready per direction.
const BUFFER: usize = 8 * 1024;

/// A connection on which the hello may be said.
pub(super) async fn dial(link: &Link, url: &str) -> Result<Socket, Cut> {
    let dialled = timeout(PATIENCE, connect(link, url)).await;
    let (mut socket, join) = dialled.map_err(|_| Cut::Late("the dial"))??;
    if let Some(join) = join {
        timeout(PATIENCE, introduce(&mut socket, join)).await.map_err(|_| Cut::Late("the join"))??;
        link.keys.as_ref().map_or(Ok(()), crate::keys::Keys::has_joined)?;
        tracing::info!(server = url, "this agent has joined");
    }
    Ok(socket)
}

async fn connect(link: &Link, url: &str) -> Result<(Socket, Option<Join>), Cut> {
    let mut request = url.into_client_request().map_err(failed)?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let (host, port) = place(&request, url)?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|error| failed(error.into()))?;
    // Messages are small and complete; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let (stream, join) = if is_tls(url) {
        let keys = link.keys.as_ref().ok_or(KeysError::NotJoined)?;
        let (connector, join) = keys.connector(&link.agent_id)?;
        let stream = connector.connect(&host, stream).await.map_err(|error| failed(error.into()))?;
        (Either::Right(stream), join)
    } else {
        (Either::Left(stream), None)
    };
    let (socket, _) = client_async_with_config(request, stream, Some(limits())).await.map_err(failed)?;
    Ok((socket, join))
}

fn failed(error: Error) -> Cut {
    Cut::Connect(Box::new(error))
}

fn place(request: &Request, url: &str) -> Result<(String, u16), Cut> {
    let host = request.uri().host().ok_or_else(|| Cut::Address(url.to_owned()))?;
    let usual = if is_tls(url) { 443 } else { 80 };
    Ok((host.to_owned(), request.uri().port_u16().unwrap_or(usual)))
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        // Must hold one whole message besides what is buffered.
        .max_write_buffer_size(MAX_MESSAGE + 8 * BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        // The server's library does not split messages, so a frame is as large as a message.
        .max_frame_size(Some(MAX_MESSAGE))
}

async fn introduce(socket: &mut Socket, join: Join) -> Result<(), Cut> {
    let text = serde_json::to_string(&FromAgent::Join(join))?;
    socket.send(Message::text(text)).await.map_err(|error| Cut::Broken(Box::new(error)))?;
    let said = answer(socket).await?;
    if said == ToAgent::Joined { Ok(()) } else { Err(not_taken(said)) }
}

pub(super) fn not_taken(said: ToAgent) -> Cut {
    if let ToAgent::Refuse { reason } = said { Cut::Refused(reason) } else { Cut::NoWelcome }
}

/// The next message, before there is a session.
pub(super) async fn answer<S>(incoming: &mut S) -> Result<ToAgent, Cut>
where
    S: futures_util::Stream<Item = Result<Message, Error>> + Unpin,
{
    loop {
        let message =
            incoming.next().await.ok_or(Cut::Closed)?.map_err(|error| Cut::Broken(Box::new(error)))?;
        match message {
            Message::Text(text) => return serde_json::from_str(&text).map_err(|_| Cut::NoWelcome),
            Message::Close(_) => return Err(Cut::Closed),
            Message::Binary(_) => return Err(Cut::NoWelcome),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}
