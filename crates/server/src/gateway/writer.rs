//! Writes to one agent. The only task that touches the sending half of the socket.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, stream::SplitSink};
use hetuflow_core::protocol::{MAX_CHUNK, ToAgent, frame::Frame};
use hetuflow_failpoint::failpoint;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hub::outbox::{Outgoing, Unit};

type Sink = SplitSink<WebSocket, Message>;

/// How long the closing handshake may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the agent reads nothing")]
    Stuck,
    #[error("the connection broke: {0}")]
    Broken(#[from] axum::Error),
}

/// Runs until `closing`, or until the socket fails, which it then makes known by `closing`.
pub(super) async fn write(
    mut outgoing: Outgoing,
    mut sink: Sink,
    patience: Duration,
    closing: CancellationToken,
) {
    let ended = tokio::select! {
        ended = write_all(&mut outgoing, &mut sink, patience) => ended,
        () = closing.cancelled() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::info!(%error, "cannot write to the agent");
    }
    closing.cancel();
    // The other side may be gone, or slow: it is told or it finds out.
    let _ = timeout(GOODBYE, sink.close()).await;
}

/// What waits goes out together: the socket is flushed when nothing waits any more.
async fn write_all(outgoing: &mut Outgoing, sink: &mut Sink, patience: Duration) -> Result<(), WriteError> {
    let mut flushed = true;
    loop {
        tokio::select! {
            biased;
            Some(message) = outgoing.control.recv() => feed(sink, encode(&message), patience).await?,
            Some(unit) = outgoing.work.recv() => write_unit(outgoing, sink, &unit, patience).await?,
            () = std::future::ready(()), if !flushed => {
                within(patience, sink.flush()).await?;
                flushed = true;
                continue;
            }
            // Every sender is gone: the session has ended.
            else => return Ok(()),
        }
        flushed = false;
    }
}

async fn write_unit(
    outgoing: &mut Outgoing,
    sink: &mut Sink,
    unit: &Unit,
    patience: Duration,
) -> Result<(), WriteError> {
    let mut offset = 0;
    while offset < unit.body.len() {
        let end = unit.body.len().min(offset + MAX_CHUNK);
        let data = unit.body.slice(offset..end);
        let frame = Frame::Body { instance_id: unit.instance_id, offset: offset as u64, data };
        feed(sink, Message::Binary(frame.encode()), patience).await?;
        offset = end;
        while let Ok(message) = outgoing.control.try_recv() {
            feed(sink, encode(&message), patience).await?;
        }
    }
    failpoint!("send.before");
    feed(sink, Message::Text(unit.assign.as_str().into()), patience).await?;
    failpoint!("send.after");
    outgoing.written(unit);
    Ok(())
}

async fn feed(sink: &mut Sink, message: Message, patience: Duration) -> Result<(), WriteError> {
    within(patience, sink.feed(message)).await
}

/// An agent that does not read while it waits for us to read must not hold both for ever.
async fn within(
    patience: Duration,
    written: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), WriteError> {
    timeout(patience, written).await.map_err(|_| WriteError::Stuck)?.map_err(WriteError::Broken)
}

pub(super) fn encode(message: &ToAgent) -> Message {
    Message::Text(to_json(message).into())
}

pub(crate) fn to_json(message: &ToAgent) -> String {
    // Maps with text keys, numbers and texts: nothing in a message can fail to become JSON.
    serde_json::to_string(message).unwrap_or_else(|error| {
        tracing::error!(%error, "a message could not be encoded");
        r#"{"type":"pong"}"#.to_owned()
    })
}
