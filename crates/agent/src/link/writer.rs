//! The sending half of a connection, on a task of its own: a server that does not read stops the
//! queue in front of it and nothing else.

use futures_util::{SinkExt, stream::SplitSink};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message},
};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Short, because what is in it cannot be overtaken: full, the session chooses the most urgent
/// message each time that a place gets free.
const QUEUE: usize = 2;

pub(super) fn start(
    sink: SplitSink<Socket, Message>,
) -> (mpsc::Sender<Message>, JoinHandle<Result<(), Error>>) {
    let (queue, messages) = mpsc::channel(QUEUE);
    (queue, tokio::spawn(write(sink, messages)))
}

/// Ends when the session drops its end of the queue.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut messages: mpsc::Receiver<Message>,
) -> Result<(), Error> {
    while let Some(message) = messages.recv().await {
        sink.send(message).await?;
    }
    sink.close().await
}
