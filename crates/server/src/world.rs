//! A server around a real SQLite file, with a clock that the test drives, and agents that speak the
//! protocol over real sockets. For tests of the loops and of the gateway.

mod agent;

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
use hetuflow_core::{
    Clock,
    event::{Event, SourceKind},
    id::{EventId, JobId, Namespace, ServerId, TaskId},
    job::Command,
    labels::{Labels, Lane, Selector},
    protocol::{self, FromAgent},
    retry::{OnLost, Retry, RetryPolicy},
    task::{NewTask, Task, Telling},
};
use hetuflow_store::{Ingest, Leadership, Options};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use agent::{TestAgent, hear, hello, open};

use crate::{
    AppState, Config,
    dispatch::{Dispatcher, Rounds},
    gateway::{self, Timing},
    hub::{Hub, Online, Patience},
    ingest::Ingester,
    metrics::Metrics,
    results::Reporter,
    secrets::Vault,
    triggers::{Loader, TriggerFolder},
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
        let hub = Hub::default();
        let dispatcher =
            Dispatcher::new(Arc::clone(&store), hub.clone(), clock.clone(), Arc::clone(&metrics));
        let (ingester, ingest) = Ingester::new(dispatcher.clone());
        tokio::spawn(ingest.run(stop.clone()));
        let vault = Vault::new(None);
        let owned = TriggerFolder { path: folder.clone(), owner: "folder".to_owned() };
        let (loader, triggers) =
            Loader::new(Arc::clone(&store), vault, clock.clone(), Arc::clone(&metrics), Some(owned));
        let (reporter, reports) = Reporter::new(
            Arc::clone(&store),
            hub.clone(),
            clock.clone(),
            Arc::clone(&metrics),
            Duration::ZERO,
        );
        tokio::spawn(reports.run(stop.clone()));
        let state = AppState {
            config: Arc::new(config),
            store,
            triggers,
            dispatcher,
            ingester,
            reporter,
            hub,
            server_id: ServerId::at(clock.now()),
            clock,
            metrics,
            judge: crate::intake::Judge::new(),
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

    /// Another server takes a trigger file; this one has not looked yet.
    pub(crate) async fn trigger_elsewhere(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(format!("{name}.toml")), text).expect("a trigger file");
        let owned = TriggerFolder { path: self.folder.clone(), owner: "folder".to_owned() };
        let (store, clock) = (Arc::clone(&self.state.store), self.state.clock.clone());
        let (mut loader, _) = Loader::new(store, Vault::new(None), clock, Arc::default(), Some(owned));
        loader.load().await.expect("triggers");
    }

    pub(crate) async fn reload(&mut self) {
        self.loader.load().await.expect("triggers");
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

    /// This server takes the lead.
    pub(crate) async fn lead(&self) -> Leadership {
        let holder = self.state.server_id;
        let epoch = self.state.store.lead(holder, Duration::from_mins(1)).await.expect("an answer");
        Leadership { holder, epoch: epoch.expect("nobody else leads") }
    }

    pub(crate) async fn dispatch(&self) {
        Rounds::new(&self.state).tick(&self.state).await.expect("a tick");
    }

    /// With all that agents have said of it and the server has heard.
    pub(crate) async fn stored(&self, id: TaskId) -> Task {
        self.state.reporter.flush().await;
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

/// Short waits for answers, and looks often.
pub(crate) fn impatient() -> Timing {
    let answer = Patience { repeat: Duration::from_millis(50), give_up: Duration::from_millis(400) };
    Timing { answer, look: Duration::from_millis(10), ..Timing::default() }
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

pub(crate) fn event(now: Timestamp, body: &[u8]) -> Event {
    Event {
        body: Bytes::copy_from_slice(body),
        ..Event::new(SourceKind::Api, Namespace::default(), "/api/test", "test", now)
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
            daemon: false,
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
        telling: Telling::Nothing,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
