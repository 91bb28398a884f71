//! The sending half of a connection, on a task of its own: a server that does not read stops the
//! queue in front of it and nothing else.

use futures_util::{SinkExt, stream::SplitSink};
use hetuflow_trust::TlsStream;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};
use tokio_util::either::Either;

pub(super) type Socket = WebSocketStream<Either<TcpStream, TlsStream<TcpStream>>>;

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
        sink.feed(message).await?;
        // Whoever filled the queue has more to say as soon as there is room; all of it goes out in one piece.
        tokio::task::yield_now().await;
        while let Ok(message) = messages.try_recv() {
            sink.feed(message).await?;
            tokio::task::yield_now().await;
        }
        sink.flush().await?;
    }
    sink.close().await
}
