//! A world for the agent's tests: a small server that speaks the protocol on a port of its own and says what
//! the test tells it to, and agents in data directories that outlive them.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hetuflow_agent::{AgentError, Config};
use hetuflow_core::{
    Clock,
    id::{EventId, InstanceId, ServerId, TaskId},
    job::Command,
    protocol::{
        Assignment, EventBrief, FromAgent, Hello, Kept, PATH, ResultVerdict, RunResult, SUBPROTOCOL, ToAgent,
        Welcome, frame::Frame,
    },
    task::Lease,
};
use jiff::Timestamp;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};
use tokio_util::sync::CancellationToken;

/// Everything happens within it, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    listener: TcpListener,
    url: String,
}

pub(crate) struct Agent {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), AgentError>>,
}

/// One connection of an agent, seen from the server.
pub(crate) struct Session {
    socket: WebSocketStream<TcpStream>,
    pub(crate) hello: Hello,
}

/// What the agent said.
#[derive(Debug)]
pub(crate) enum Said {
    Message(FromAgent),
    Output { instance_id: InstanceId, seq: u64, text: String },
}

impl World {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        Self { dir: tempfile::tempdir().expect("a directory"), listener, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// A path for what a job leaves behind.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.data_dir(), &self.url).expect("a configuration");
        config.executor.grace = Duration::from_millis(200);
        config
    }

    pub(crate) fn agent(&self) -> Agent {
        self.agent_with(self.config())
    }

    #[expect(clippy::unused_self, reason = "an agent is started in a world")]
    pub(crate) fn agent_with(&self, config: Config) -> Agent {
        let shutdown = CancellationToken::new();
        let running =
            tokio::spawn(hetuflow_agent::run(config, Clock::system(), shutdown.clone(), Box::new(|| {})));
        Agent { shutdown, running }
    }

    /// The next connection, before its welcome. One that an agent gave up before its hello is passed over:
    /// it dialled again while it stopped.
    pub(crate) async fn connection(&self) -> Session {
        loop {
            let (stream, _) =
                timeout(PATIENCE, self.listener.accept()).await.expect("in time").expect("accepted");
            let Ok(mut socket) = accept_hdr_async(stream, shake).await else { continue };
            let first = timeout(PATIENCE, socket.next()).await.expect("in time");
            let Some(Ok(Message::Text(text))) = first else { continue };
            let first = serde_json::from_str(&text).expect("JSON");
            let FromAgent::Hello(hello) = first else { panic!("the first message is {first:?}") };
            return Session { socket, hello };
        }
    }

    /// The next connection, welcomed with nothing to keep and nothing to stop.
    pub(crate) async fn session(&self) -> Session {
        let mut session = self.connection().await;
        session.welcome(Vec::new(), Vec::new()).await;
        session
    }
}

impl Agent {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.stopped().await;
    }

    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.running).await.expect("in time").expect("no panic").expect("no error");
    }

    pub(crate) async fn failed(self) -> AgentError {
        timeout(PATIENCE, self.running).await.expect("in time").expect("no panic").expect_err("an error")
    }
}

impl Session {
    pub(crate) async fn welcome(&mut self, keep: Vec<Kept>, stop: Vec<Lease>) {
        self.welcome_with(Duration::from_secs(10), keep, stop).await;
    }

    pub(crate) async fn welcome_with(&mut self, heartbeat: Duration, keep: Vec<Kept>, stop: Vec<Lease>) {
        let server_id = ServerId::at(Timestamp::UNIX_EPOCH);
        self.say(ToAgent::Welcome(Welcome {
            server_id,
            session_epoch: 1,
            heartbeat,
            keep,
            stop,
            servers: Vec::new(),
        }))
        .await;
    }

    pub(crate) async fn say(&mut self, message: ToAgent) {
        let text = serde_json::to_string(&message).expect("JSON");
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// The body in two frames, then the assignment.
    pub(crate) async fn assign(&mut self, mut assignment: Assignment, body: &'static [u8]) {
        assignment.event.body_size = body.len() as u64;
        let instance_id = assignment.lease.instance_id;
        let middle = body.len() / 2;
        for (offset, data) in [(0, &body[..middle]), (middle as u64, &body[middle..])] {
            let frame = Frame::Body { instance_id, offset, data: Bytes::from_static(data) };
            self.socket.send(Message::Binary(frame.encode())).await.expect("sent");
        }
        self.say(ToAgent::Assign(Box::new(assignment))).await;
    }

    pub(crate) async fn run(&mut self, assignment: &Assignment) {
        self.assign(assignment.clone(), b"").await;
    }

    /// The next thing that the agent says; signs of life are answered on the way.
    pub(crate) async fn next(&mut self) -> Said {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("in time").expect("open");
            match message.expect("a message") {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text).expect("JSON");
                    if message != FromAgent::Ping {
                        return Said::Message(message);
                    }
                    self.say(ToAgent::Pong).await;
                }
                Message::Binary(frame) => match Frame::decode(&frame).expect("a frame") {
                    Frame::Output(piece) => {
                        let text = String::from_utf8_lossy(&piece.data).into_owned();
                        return Said::Output { instance_id: piece.instance_id, seq: piece.seq, text };
                    }
                    Frame::Body { .. } => panic!("an agent sends no bodies"),
                },
                Message::Close(_) => panic!("the agent closed the connection"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Skips until `pick` finds what it looks for.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(Said) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    pub(crate) async fn started(&mut self, lease: Lease) {
        self.until(|said| {
            matches!(said, Said::Message(FromAgent::Started { lease: of, .. }) if of == lease).then_some(())
        })
        .await;
    }

    pub(crate) async fn refused(&mut self, lease: Lease) -> String {
        self.until(|said| {
            let (of, reason) = match said {
                Said::Message(FromAgent::Refused { lease, reason }) => (lease, reason),
                Said::Message(FromAgent::Stale { lease }) => (lease, "stale".to_owned()),
                Said::Message(_) | Said::Output { .. } => return None,
            };
            (of == lease).then_some(reason)
        })
        .await
    }

    pub(crate) async fn accepted(&mut self, lease: Lease) {
        self.until(|said| {
            matches!(said, Said::Message(FromAgent::Accepted { lease: of }) if of == lease).then_some(())
        })
        .await;
    }

    /// The result of one attempt, and its output up to it.
    pub(crate) async fn result(&mut self, lease: Lease) -> (RunResult, String) {
        let mut output = String::new();
        let result = self
            .until(|said| match said {
                Said::Message(FromAgent::Result(result)) if result.lease == lease => Some(result),
                Said::Output { instance_id, text, .. } if instance_id == lease.instance_id => {
                    output.push_str(&text);
                    None
                }
                Said::Message(_) | Said::Output { .. } => None,
            })
            .await;
        (result, output)
    }

    pub(crate) async fn acknowledge(&mut self, lease: Lease) {
        self.say(ToAgent::ResultAck { lease, verdict: ResultVerdict::Recorded }).await;
    }

    pub(crate) async fn credit(&mut self, wanted: u32) {
        self.until(|said| {
            matches!(said, Said::Message(FromAgent::Credit { free }) if free == wanted).then_some(())
        })
        .await;
    }
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "the signature that the library asks for"
)]
fn shake(
    request: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    assert_eq!(request.uri().path(), PATH);
    assert_eq!(request.headers().get(SEC_WEBSOCKET_PROTOCOL), Some(&HeaderValue::from_static(SUBPROTOCOL)));
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// An attempt that runs `script` with `/bin/sh`.
pub(crate) fn script(script: &str) -> Assignment {
    command("/bin/sh", &["-c", script])
}

pub(crate) fn command(cmd: &str, args: &[&str]) -> Assignment {
    let now = Clock::system().now();
    let command = serde_json::json!({ "cmd": cmd, "args": args });
    let command: Command = serde_json::from_value(command).expect("a command");
    Assignment {
        lease: Lease { task_id: TaskId::at(now), instance_id: InstanceId::at(now), fence: 1 },
        attempt: 1,
        command,
        event: EventBrief {
            id: EventId::at(now),
            event_type: "push".to_owned(),
            source: "/hooks/test".to_owned(),
            subject: None,
            replay_of: None,
            body_size: 0,
            file: None,
        },
    }
}

/// Another attempt of the same task.
pub(crate) fn again(assignment: &Assignment, fence: i64) -> Assignment {
    let instance_id = InstanceId::at(Clock::system().now());
    let lease = Lease { instance_id, fence, ..assignment.lease };
    Assignment { lease, ..assignment.clone() }
}

/// Waits until the file has this many lines, and yields them.
pub(crate) async fn lines(path: &std::path::Path, count: usize) -> Vec<String> {
    let lines = || -> Vec<String> {
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    timeout(PATIENCE, async {
        while lines().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("in time");
    lines()
}

/// Whether a process with this pid runs (a zombie does not).
pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
}
