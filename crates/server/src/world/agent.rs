//! An agent that says what the test says, and hears what the server says.

use futures_util::{SinkExt, StreamExt};
use hetuflow_core::{
    id::{AgentId, JournalId},
    protocol::{self, Assignment, FromAgent, Held, Hello, RunResult, ToAgent, Welcome, frame::Frame},
    task::{Lease, Outcome, OutputChunk},
};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{DEADLINE, pairs};

pub(crate) struct TestAgent {
    pub(crate) hello: Hello,
    pub(crate) welcome: Welcome,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// One assignment as it came over the wire.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) assignment: Assignment,
    pub(crate) body: Vec<u8>,
    pub(crate) frames: usize,
}

impl TestAgent {
    pub(crate) async fn connect(url: &str, hello: Hello) -> Self {
        let mut socket = open(url).await;
        let text = serde_json::to_string(&FromAgent::Hello(hello.clone())).expect("JSON");
        socket.send(Message::Text(text.into())).await.expect("sent");
        let ToAgent::Welcome(welcome) = hear(&mut socket).await else { panic!("no welcome") };
        Self { hello, welcome, socket }
    }

    /// The same agent once more, over a new connection, holding these.
    pub(crate) async fn again(&self, url: &str, held: Vec<Held>) -> Self {
        let epoch = self.hello.journal_epoch + 1;
        Self::connect(url, Hello { journal_epoch: epoch, held, ..self.hello.clone() }).await
    }

    pub(crate) async fn say(&mut self, message: FromAgent) {
        let text = serde_json::to_string(&message).expect("JSON");
        self.socket.send(Message::Text(text.into())).await.expect("sent");
    }

    pub(crate) async fn output(&mut self, chunk: OutputChunk) {
        self.socket.send(Message::Binary(Frame::Output(chunk).encode())).await.expect("sent");
    }

    /// The next message, watches left out.
    pub(crate) async fn hear(&mut self) -> ToAgent {
        loop {
            let message = hear(&mut self.socket).await;
            if !matches!(message, ToAgent::Watches { .. }) {
                return message;
            }
        }
    }

    pub(crate) async fn hear_any(&mut self) -> ToAgent {
        hear(&mut self.socket).await
    }

    pub(crate) async fn watches(&mut self) -> Vec<String> {
        let ToAgent::Watches { watches } = hear(&mut self.socket).await else { panic!("no watches") };
        watches.into_iter().map(|watch| watch.key).collect()
    }

    /// The answer to a ping: everything said before has been handled, and nothing else was sent.
    pub(crate) async fn sync(&mut self) {
        self.say(FromAgent::Ping).await;
        assert_eq!(self.hear().await, ToAgent::Pong);
    }

    pub(crate) async fn assigned(&mut self) -> Assigned {
        let mut body = Vec::new();
        let mut frames = 0;
        loop {
            match next(&mut self.socket).await {
                Some(Message::Binary(bytes)) => {
                    let Ok(Frame::Body { offset, data, .. }) = Frame::decode(&bytes) else {
                        panic!("no body")
                    };
                    assert_eq!(offset, body.len() as u64);
                    body.extend_from_slice(&data);
                    frames += 1;
                }
                Some(Message::Text(text)) => {
                    let message: ToAgent = serde_json::from_str(&text).expect("a message");
                    if let ToAgent::Assign(assignment) = message {
                        return Assigned { assignment: *assignment, body, frames };
                    }
                    assert!(
                        matches!(message, ToAgent::Watches { .. }),
                        "{message:?} instead of an assignment"
                    );
                }
                other => panic!("{other:?} instead of an assignment"),
            }
        }
    }

    /// Takes the next assignment as an agent does.
    pub(crate) async fn take(&mut self) -> Lease {
        let lease = self.assigned().await.assignment.lease;
        self.say(FromAgent::Accepted { lease }).await;
        lease
    }

    pub(crate) async fn result(&mut self, lease: Lease, outcome: Outcome) {
        let finished_at = Timestamp::UNIX_EPOCH;
        let result = RunResult { lease, outcome, started_at: None, finished_at, output_dropped: 0 };
        self.say(FromAgent::Result(result)).await;
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while next(&mut self.socket).await.is_some() {}
    }

    /// Cuts the link without a word.
    pub(crate) fn cut(self) -> Hello {
        self.hello
    }
}

pub(crate) fn hello(name: &str, labels: &[(&str, &str)]) -> Hello {
    Hello {
        protocol: protocol::VERSION,
        agent_id: AgentId::new(name).expect("a name"),
        journal_id: JournalId::at(Timestamp::UNIX_EPOCH),
        journal_epoch: 1,
        hostname: format!("{name}.example"),
        version: "1.2.3".to_owned(),
        labels: pairs(labels),
        slots: 8,
        held: Vec::new(),
    }
}

/// A connection that offers the subprotocol and has said nothing.
pub(crate) async fn open(url: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let mut request = url.into_client_request().expect("a request");
    let offer = protocol::SUBPROTOCOL.parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", offer);
    connect_async(request).await.expect("connected").0
}

pub(crate) async fn hear(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> ToAgent {
    match next(socket).await {
        Some(Message::Text(text)) => serde_json::from_str(&text).expect("a message"),
        other => panic!("{other:?} instead of a control message"),
    }
}

async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Option<Message> {
    loop {
        let message =
            tokio::time::timeout(DEADLINE, socket.next()).await.expect("the server says nothing")?;
        let message = message.ok().filter(|message| !message.is_close())?;
        // The next read answers it.
        if !message.is_ping() {
            return Some(message);
        }
    }
}
