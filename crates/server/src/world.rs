//! A server around a real SQLite file, with a clock that the test drives, and agents that speak the
//! protocol over real sockets. For tests of the loops and of the gateway.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hetuflow_core::{
    Clock,
    event::{Event, SourceKind, Verdict},
    id::{AgentId, EventId, JobId, JournalId, Namespace, ServerId, TaskId},
    job::Command,
    labels::{Labels, Lane, Selector},
    protocol::{self, Assignment, FromAgent, Held, Hello, RunResult, ToAgent, Welcome, frame::Frame},
    retry::{OnLost, Retry, RetryPolicy},
    task::{Lease, NewTask, Outcome, OutputChunk, Task},
};
use hetuflow_store::{Ingest, Options};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    AppState, Config, dispatch,
    gateway::{self, Timing},
    hub::{Hub, Online, Patience},
    ingest::Ingester,
    metrics::Metrics,
    secrets::Vault,
    triggers::Loader,
};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) state: AppState,
    pub(crate) url: String,
    pub(crate) stop: CancellationToken,
    time: Arc<AtomicI64>,
    loader: Loader,
    folder: PathBuf,
    _guard: DropGuard,
    _dir: TempDir,
}

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

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Timing::default(), |_| {}).await
    }

    pub(crate) async fn with(timing: Timing, configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = dir.path().join("triggers");
        std::fs::create_dir(&folder).expect("a folder for triggers");
        let mut config = Config::read(None, &[]).expect("the defaults");
        configure(&mut config);
        let url = format!("sqlite://{}", dir.path().join("hetuflow.db").display());
        let store = hetuflow_store::open(&Options { url, pool_size: 4 }).await.expect("a database");
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a timestamp");
        let time = Arc::new(AtomicI64::new(start.as_millisecond()));
        let clock = driven(Arc::clone(&time));
        let metrics = Arc::<Metrics>::default();
        let stop = CancellationToken::new();
        let (ingester, ingest) = Ingester::new(Arc::clone(&store), Arc::clone(&metrics));
        tokio::spawn(ingest.run(stop.clone()));
        let vault = Vault::new(None);
        let (loader, triggers) =
            Loader::new(Arc::clone(&store), vault, clock.clone(), Arc::clone(&metrics), Some(folder.clone()));
        let state = AppState {
            config: Arc::new(config),
            store,
            triggers,
            ingester,
            hub: Hub::default(),
            server_id: ServerId::at(clock.now()),
            clock,
            metrics,
        };
        let url = serve(gateway::router_with(state.clone(), timing), stop.clone()).await;
        Self { state, url, _guard: stop.clone().drop_guard(), stop, time, loader, folder, _dir: dir }
    }

    /// Lets the wall clock go on.
    pub(crate) fn advance(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// Writes a trigger file and loads it.
    pub(crate) async fn trigger(&mut self, name: &str, text: &str) {
        std::fs::write(self.folder.join(format!("{name}.toml")), text).expect("a trigger file");
        self.loader.load().await.expect("triggers");
        let set = self.state.triggers.current();
        assert!(set.live.contains_key(&format!("default/{name}")), "{:?}", set.stored);
    }

    pub(crate) async fn remove_trigger(&mut self, name: &str) {
        std::fs::remove_file(self.folder.join(format!("{name}.toml"))).expect("a trigger file");
        self.loader.load().await.expect("triggers");
    }

    /// Stores an event with a task for agents that the selector matches.
    pub(crate) async fn task(&self, selector: &[(&str, &str)], body: &[u8]) -> TaskId {
        let now = self.now();
        let event = event(now, body);
        let task = task(now, event.id, selector);
        let id = task.id;
        self.state.ingester.submit(Ingest { event, dedupe: None, tasks: vec![task] }).await.expect("stored");
        id
    }

    pub(crate) async fn dispatch(&self) {
        dispatch::tick(&self.state, 0).await.expect("a tick");
    }

    pub(crate) async fn stored(&self, id: TaskId) -> Task {
        self.state.store.task(id).await.expect("the task")
    }

    /// An agent that has said hello and nothing else.
    pub(crate) async fn agent(&self, name: &str, labels: &[(&str, &str)]) -> TestAgent {
        TestAgent::connect(&self.url, hello(name, labels)).await
    }

    /// An agent that can take `free` tasks, and the server knows.
    pub(crate) async fn ready(&self, name: &str, labels: &[(&str, &str)], free: u32) -> TestAgent {
        let mut agent = self.agent(name, labels).await;
        agent.say(FromAgent::Credit { free }).await;
        self.until(name, |online| online.free == free).await;
        agent
    }

    /// Waits until the hub shows the agent like this.
    pub(crate) async fn until(&self, name: &str, is: impl Fn(&Online) -> bool) {
        let there =
            self.until_hub(|online| online.iter().any(|one| one.agent_id.as_str() == name && is(one)));
        there.await;
    }

    pub(crate) async fn until_hub(&self, is: impl Fn(&[Online]) -> bool) {
        let mut changes = self.state.hub.changes();
        let wait = async {
            while !is(&self.state.hub.online()) {
                changes.changed().await.expect("the hub lives");
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the hub never showed it");
    }

    pub(crate) fn free(&self, name: &str) -> u32 {
        let online = self.state.hub.online();
        online.iter().find(|one| one.agent_id.as_str() == name).expect("online").free
    }
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
            match hear(&mut self.socket).await {
                ToAgent::Watches { .. } => {}
                other => return other,
            }
        }
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
                Some(Message::Text(text)) => match serde_json::from_str(&text).expect("a message") {
                    ToAgent::Assign(assignment) => return Assigned { assignment: *assignment, body, frames },
                    ToAgent::Watches { .. } => {}
                    other => panic!("{other:?} instead of an assignment"),
                },
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

/// Short waits for answers, and looks often.
pub(crate) fn impatient() -> Timing {
    let answer = Patience { repeat: Duration::from_millis(50), give_up: Duration::from_millis(400) };
    Timing { answer, look: Duration::from_millis(10), ..Timing::default() }
}

async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Option<Message> {
    let message = tokio::time::timeout(DEADLINE, socket.next()).await.expect("the server says nothing")?;
    message.ok().filter(|message| !message.is_close())
}

async fn serve(router: axum::Router, stop: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
    format!("ws://{address}{}", protocol::PATH)
}

fn driven(time: Arc<AtomicI64>) -> Clock {
    Clock::from_fn(move || {
        Timestamp::from_millisecond(time.load(Ordering::SeqCst)).expect("a time that can be said")
    })
}

fn event(now: Timestamp, body: &[u8]) -> Event {
    Event {
        id: EventId::at(now),
        namespace: Namespace::default(),
        kind: SourceKind::Api,
        source: "/api/test".to_owned(),
        event_type: "test".to_owned(),
        subject: None,
        time: now,
        received_at: now,
        content_type: None,
        headers: Vec::new(),
        query: None,
        verdict: Verdict::Accepted,
        decisions: Vec::new(),
        body: Bytes::copy_from_slice(body),
    }
}

fn task(now: Timestamp, event_id: EventId, selector: &[(&str, &str)]) -> NewTask {
    NewTask {
        id: TaskId::at(now),
        namespace: Namespace::default(),
        trigger: "test".to_owned(),
        job_id: JobId::at(now),
        schedule_id: None,
        event_id,
        run_at: now,
        priority: 0,
        lane: Lane { selector: Selector(pairs(selector)), agent: None },
        policy: RetryPolicy {
            max_retries: 0,
            interval: Duration::from_secs(10),
            retry: Retry::default(),
            on_lost: OnLost::Hold,
        },
        command: Ok(Command {
            cmd: "true".to_owned(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: None,
            stdin: None,
            user: None,
            timeout: None,
            capture_output: true,
            max_output_size: 1024,
            resource_limits: None,
        }),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
