//! Puts the server together, starts its loops, and takes it apart again in the right order.
//!
//! Loops: `ingest` (commits events), `reports` (commits what agents report), `triggers` (folder and store), `dispatch`,
//! `sessions` (renews; the leader reaps), `leader` (holds the lead), `scheduler`, `ends` (the leader: ends of tasks
//! become events), `housekeeping` (the leader:
//! partitions, retention), `sweep` (rate allowances), one `listener` for each socket.
//! One that ends before its time takes the server down: half a server would accept what nobody runs.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, middleware};
use futures_util::{FutureExt, future::BoxFuture};
use hetuflow_core::{Clock, fingerprint::Fingerprint, id::ServerId};
use hetuflow_store::{Options, StoreError};
use hetuflow_trust::Acceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AppState, Config, Listeners,
    api::{self, Api, ApiError, explain},
    dispatch::{self, Dispatcher},
    ends,
    gateway::{self, Tries},
    health::{self, Health, Loops, Status},
    hooks::{self, Hooks},
    housekeeping::{Housekeeping, Reports},
    hub::Hub,
    ingest::{IngestLoop, Ingester},
    intake::Judge,
    leader::{Election, Leader},
    listen::{self, Addresses, Door, Entrance},
    metrics::Metrics,
    results::{NOTE_AFTER, ReportLoop, Reporter},
    scheduler,
    secrets::Vault,
    tls::{self, TlsError},
    triggers::{Loader, TriggerFolder},
};

/// What must run for health to be good.
pub(crate) const LOOPS: [&str; 9] =
    ["ingest", "reports", "triggers", "dispatch", "leader", "sessions", "scheduler", "ends", "housekeeping"];

const READY_EVERY: Duration = Duration::from_millis(50);
/// After connections were given their time, what is left of the server gets this long to end.
const LOOPS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the database cannot be used")]
    Store(#[source] StoreError),
    #[error("triggers could not be loaded")]
    Triggers(#[source] StoreError),
    #[error("loop {0} ended, and a server without it accepts what it cannot run")]
    LoopEnded(&'static str),
}

/// Starts everything and returns; the server runs until `shutdown`. Whoever connected since the listeners were
/// bound is answered from now on.
///
/// Boxed, so that the server is compiled with this crate, and not with every binary that it is in.
pub fn start(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<Server, ServerError>> {
    Box::pin(begin(config, listeners, shutdown))
}

async fn begin(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<Server, ServerError> {
    let tls = tls::acceptor(&config, &listeners)?;
    let options = Options { url: config.database.url.clone(), pool_size: config.database.pool_size };
    let store = hetuflow_store::open(&options).await.map_err(ServerError::Store)?;
    if let Some(tls) = &tls {
        store.know_server(tls.fingerprint()).await.map_err(ServerError::Store)?;
    }
    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::default()));
    let hub = Hub::default();
    let dispatcher = Dispatcher::new(Arc::clone(&store), hub.clone(), clock.clone(), Arc::clone(&metrics));
    let (ingester, ingest) = Ingester::new(dispatcher.clone());
    let vault = Vault::new(config.embedded.make_secret.clone());
    let folder = TriggerFolder::of(&config);
    let (mut loader, triggers) =
        Loader::new(Arc::clone(&store), vault, clock.clone(), Arc::clone(&metrics), folder);
    loader.load().await.map_err(ServerError::Triggers)?;
    let server_id = ServerId::at(clock.now());
    let config = Arc::new(config);
    let (reporter, reports) =
        Reporter::new(Arc::clone(&store), hub.clone(), clock.clone(), Arc::clone(&metrics), NOTE_AFTER);
    let state = AppState {
        config,
        store,
        triggers,
        dispatcher,
        ingester,
        reporter,
        hub,
        clock,
        server_id,
        metrics,
        judge: Judge::new(),
    };
    let (election, lead) = Election::new();
    let (housekeeping, kept) = Housekeeping::new(state.clone(), lead.clone());
    let server = Server::new(state, lead, kept, listeners.addresses(), &shutdown);
    let server_key = tls.as_ref().map(Acceptor::fingerprint);
    server.start_loops(Starting { loader, ingest, reports, election, housekeeping, server_key });
    server.open(listeners, tls.as_ref());
    Ok(server)
}

/// Loops that were made with the handles to them.
struct Starting {
    loader: Loader,
    ingest: IngestLoop,
    reports: ReportLoop,
    election: Election,
    housekeeping: Housekeeping,
    /// That agents of other machines know this server by.
    server_key: Option<Fingerprint>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    pub state: AppState,
    lead: Leader,
    reports: Reports,
    addresses: Addresses,
    loops: Loops,
    /// The first loop that ended before its time.
    ended: Arc<OnceLock<&'static str>>,
    stop: Stop,
}

/// The stages of a stop, in their order.
#[derive(Debug, Default)]
struct Stop {
    /// Nothing new: accept loops end, connections finish what they began, loops end.
    shutdown: CancellationToken,
    connections: TaskTracker,
    /// Connections have had their time.
    cut: CancellationToken,
    loops: TaskTracker,
    /// Nobody submits any more.
    last_commit: CancellationToken,
    ingest: TaskTracker,
}

impl Server {
    fn new(
        state: AppState,
        lead: Leader,
        reports: Reports,
        addresses: Addresses,
        shutdown: &CancellationToken,
    ) -> Self {
        // A child: a loop that fails stops this server, and its caller decides about the rest.
        let stop = Stop { shutdown: shutdown.child_token(), ..Stop::default() };
        Self { state, lead, reports, addresses, loops: Loops::default(), ended: Arc::default(), stop }
    }

    /// Where it listens, with the ports that the system chose.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub async fn health(&self) -> Health {
        health::check(&self.state, &self.loops, &self.reports).await
    }

    /// Waits until health is good (or degraded, which time does not mend). Ends early when the server stops.
    pub async fn wait_ready(&self) -> Health {
        loop {
            let health = self.health().await;
            if health.status != Status::Unavailable || self.stop.shutdown.is_cancelled() {
                return health;
            }
            tokio::select! {
                () = self.stop.shutdown.cancelled() => {}
                () = tokio::time::sleep(READY_EVERY) => {}
            }
        }
    }

    fn start_loops(&self, starting: Starting) {
        let Starting { loader, ingest, reports, election, housekeeping, server_key } = starting;
        let (state, stop) = (&self.state, &self.stop);
        let shutdown = || stop.shutdown.clone();
        self.spawn(&stop.ingest, "ingest", ingest.run(stop.last_commit.clone()));
        self.spawn(&stop.ingest, "reports", reports.run(stop.last_commit.clone()));
        self.spawn(&stop.loops, "triggers", loader.run(shutdown()));
        self.spawn(&stop.loops, "dispatch", dispatch::run(state.clone(), shutdown()));
        self.spawn(&stop.loops, "leader", election.run(state.clone(), shutdown()));
        self.spawn(
            &stop.loops,
            "sessions",
            gateway::keep_sessions(state.clone(), self.lead.clone(), server_key, shutdown()),
        );
        self.spawn(&stop.loops, "scheduler", scheduler::run(state.clone(), shutdown()));
        self.spawn(&stop.loops, "ends", ends::run(state.clone(), self.lead.clone(), shutdown()));
        self.spawn(&stop.loops, "housekeeping", housekeeping.run(shutdown()));
    }

    /// A loop ends with the shutdown; one that ends before, or panics, brings it about.
    fn spawn(
        &self,
        tracker: &TaskTracker,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.loops.started(name);
        let (loops, ended, shutdown) =
            (self.loops.clone(), Arc::clone(&self.ended), self.stop.shutdown.clone());
        tracker.spawn(async move {
            let panicked = AssertUnwindSafe(work).catch_unwind().await.is_err();
            loops.ended(name);
            if panicked || !shutdown.is_cancelled() {
                tracing::error!(name, panicked, "a loop ended before its time; the server stops");
                let _ = ended.set(name);
                shutdown.cancel();
            }
        });
    }

    fn open(&self, listeners: Listeners, tls: Option<&Acceptor>) {
        let Addresses { http, agents, hooks } = self.addresses;
        tracing::info!(api = %http, %agents, %hooks, "listening");
        if let Some(tls) = tls {
            tracing::info!(key = %tls.fingerprint(), "agents of other machines connect with TLS, and know this server by its key");
        }
        let tries = Tries::default();
        let hooks = Hooks::new(self.state.clone(), self.stop.shutdown.clone());
        let shutdown = self.stop.shutdown.clone();
        let (loops, leader) = (self.loops.clone(), self.lead.clone());
        let (app, reports) = (self.state.clone(), self.reports.clone());
        let api = Api { app, loops, leader, reports, shutdown };
        for Door { listener, serves, address } in listeners.doors {
            let router = serves.iter().fold(Router::new(), |router, entrance| {
                router.merge(match entrance {
                    Entrance::Http => api::router(api.clone()),
                    Entrance::Agents => gateway::router(self.state.clone(), tries.clone()),
                    Entrance::Hooks => hooks::router(Arc::clone(&hooks)),
                })
            });
            let router = router.fallback(unknown_path).layer(middleware::from_fn(explain));
            let door = listen::Shared {
                router,
                metrics: Arc::clone(&self.state.metrics),
                proxies: self.state.config.hooks.trusted_proxies.clone(),
                tls: tls.filter(|_| speaks_tls(&serves, address)).cloned(),
                connections: self.stop.connections.clone(),
                shutdown: self.stop.shutdown.clone(),
                cut: self.stop.cut.clone(),
            };
            let serve = listen::serve(listener, self.state.config.limits.clone(), door);
            self.spawn(&self.stop.loops, "listener", serve);
        }
        let sweep = hooks::sweep(hooks, self.stop.shutdown.clone());
        self.spawn(&self.stop.loops, "sweep", sweep);
        self.spawn(&self.stop.loops, "sweep", tries.sweep(self.stop.shutdown.clone()));
    }

    /// Waits for the shutdown and drains: requests that have begun are finished, agents are told to go
    /// elsewhere, what was submitted is committed, the store is closed.
    pub async fn join(self) -> Result<(), ServerError> {
        let Stop { shutdown, connections, cut, loops, last_commit, ingest } = self.stop;
        shutdown.cancelled().await;
        tracing::info!("stopping");
        connections.close();
        let patience = self.state.config.server.shutdown_timeout;
        if tokio::time::timeout(patience, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "connections are cut");
            cut.cancel();
            connections.wait().await;
        }
        end("loops", &loops).await;
        last_commit.cancel();
        end("ingest", &ingest).await;
        self.state.store.close().await;
        self.ended.get().map_or(Ok(()), |name| Err(ServerError::LoopEnded(name)))
    }
}

/// Agents that come over loopback need none.
fn speaks_tls(serves: &[Entrance], address: SocketAddr) -> bool {
    serves.contains(&Entrance::Agents) && !address.ip().to_canonical().is_loopback()
}

async fn end(what: &'static str, tracker: &TaskTracker) {
    tracker.close();
    if tokio::time::timeout(LOOPS_WITHIN, tracker.wait()).await.is_err() {
        tracing::warn!(what, "did not end in time and is left behind");
    }
}

async fn unknown_path() -> ApiError {
    ApiError::NotFound("there is nothing at this path".to_owned())
}
