//! Puts the agent together, and takes it apart in the right order.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hetuflow_core::{Clock, id::AgentId};
use hetuflow_watch::{WatchError, Watcher};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    attempts::{Attempts, Stop},
    config::Config,
    identity::{self, IdentityError},
    journal::{Journal, JournalError, Journalled},
    keys::{Keys, KeysError},
    link::Link,
    process::{self, Spawner},
    runner::{MOST_HANGING, Runner},
    spool::Spools,
    workplace::{WorkplaceError, Workplaces},
};

/// After the processes are gone: for the server to acknowledge what they came to. What it does not is in the
/// journal, and reported after the next start.
const FAREWELL: Duration = Duration::from_secs(5);

/// Beyond the grace, for killed processes to go.
const KILLED: Duration = Duration::from_secs(10);

const SWEEP: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("the journal {} cannot be used", .path.display())]
    Journal { path: PathBuf, source: JournalError },
    #[error("the directory of spooled output {} cannot be used", .path.display())]
    Spool { path: PathBuf, source: std::io::Error },
    #[error("the directory of working directories cannot be used: {0}")]
    WorkDir(String),
    #[error("files cannot be watched")]
    Watch(#[from] WatchError),
    #[error("processes cannot be started (/dev/null)")]
    Process(#[source] std::io::Error),
    #[error("this host does not tell its boot id (/proc/sys/kernel/random/boot_id)")]
    Boot(#[source] std::io::Error),
}

/// How an agent ended.
pub type Ended = Result<(), AgentError>;

/// Runs an agent until `shutdown`: then it takes no new work, waits for what runs (at most the
/// configured time), kills the rest, and reports as much as the server takes.
///
/// Boxed, so that the agent is compiled with this crate, and not with every binary that it is in.
pub fn run(
    config: Config,
    clock: Clock,
    shutdown: CancellationToken,
    ready: Box<dyn FnOnce() + Send>,
) -> BoxFuture<'static, Ended> {
    Box::pin(live(config, clock, shutdown, ready))
}

async fn live(
    config: Config,
    clock: Clock,
    shutdown: CancellationToken,
    ready: Box<dyn FnOnce() + Send>,
) -> Ended {
    let data_dir = config.agent.data_dir.clone();
    // Held to the end: the lock on the data directory is in it.
    let identity = identity::claim_patiently(&data_dir, config.agent.id.as_ref()).await?;
    let keys = Keys::open(&config)?;
    let (runner, left) = prepare(&config, &identity.agent_id, clock).await?;
    runner.adopt(left).await;
    tracing::info!(
        agent.id = %identity.agent_id, data_dir = %data_dir.display(), cgroups = runner.spawner.has_cgroups(),
        "the agent runs"
    );
    let stop_watching = CancellationToken::new();
    let watcher = watch(&config, &identity.agent_id, &runner.clock, &stop_watching).await?;
    let link = Link {
        agent_id: identity.agent_id.clone(),
        servers: config.server_urls(),
        keys,
        labels: config.labels.clone(),
        slots: config.agent.max_concurrent_tasks,
        runner: runner.clone(),
        watcher: watcher.clone(),
    };
    ready();
    let unlink = CancellationToken::new();
    let link = tokio::spawn(link.run(unlink.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sweep(&runner) => {}
    }
    drain(&runner).await;
    unlink.cancel();
    let _ = link.await;
    stop_watching.cancel();
    watcher.stopped().await;
    runner.actors.close();
    let _ = timeout(FAREWELL, runner.actors.wait()).await;
    runner.spawner.close();
    runner.journal.close().await;
    tracing::info!("the agent has stopped");
    Ok(())
}

async fn prepare(
    config: &Config,
    agent_id: &AgentId,
    clock: Clock,
) -> Result<(Runner, Vec<Journalled>), AgentError> {
    let data_dir = &config.agent.data_dir;
    let boot_id = process::boot_id().map_err(AgentError::Boot)?;
    let path = data_dir.join("journal.db");
    let journal = Journal::open(&path, &boot_id, clock.now()).await;
    let (journal, left) = journal.map_err(|source| AgentError::Journal { path, source })?;
    let path = data_dir.join("spool");
    let spools = Spools::open(path.clone()).await.map_err(|source| AgentError::Spool { path, source })?;
    let workplaces = Workplaces::open(config.work_dir(), config.executor.keep_work_dirs)
        .map_err(|error: WorkplaceError| AgentError::WorkDir(error.to_string()))?;
    let agent_id = agent_id.clone();
    let spawner = spawn_blocking(move || Spawner::new(agent_id)).await;
    let spawner = spawner.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let spawner = spawner.map_err(AgentError::Process)?;
    if !spawner.has_cgroups() {
        tracing::warn!(
            "no writable cgroup v2: a process that leaves its group and clears its environment can escape"
        );
    }
    let runner = Runner {
        journal,
        attempts: Attempts::new(config.agent.max_concurrent_tasks),
        spools,
        workplaces,
        spawner: Arc::new(spawner),
        executor: Arc::new(config.executor.clone()),
        clock,
        actors: TaskTracker::new(),
        hanging: Arc::new(Semaphore::new(MOST_HANGING)),
    };
    Ok((runner, left))
}

/// From here on files are noticed, whether a server is there or not.
async fn watch(
    config: &Config,
    agent_id: &AgentId,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<Watcher, WatchError> {
    let state = config.agent.data_dir.join("watch.db");
    let options = hetuflow_watch::Options::new(state, config.files_base(), agent_id.clone());
    let roots = config.files.roots.clone();
    hetuflow_watch::start(hetuflow_watch::Options { clock: clock.clone(), roots, ..options }, stop.clone())
        .await
}

/// Removes what no attempt needs any more, now and then; never ends.
async fn sweep(runner: &Runner) {
    let mut ticks = interval(SWEEP);
    loop {
        ticks.tick().await;
        let (attempts, workplaces, clock) =
            (runner.attempts.clone(), runner.workplaces.clone(), runner.clock.clone());
        let swept = spawn_blocking(move || workplaces.sweep(&clock, |id| attempts.get(id).is_some())).await;
        let spools = runner.spools.sweep(|id| runner.attempts.get(id).is_some()).await;
        if let Err(error) = spools.and(swept.map_err(std::io::Error::other)) {
            tracing::warn!(%error, "cannot tidy up after old attempts");
        }
    }
}

async fn drain(runner: &Runner) {
    runner.attempts.drain();
    let limit = runner.executor.drain_timeout;
    if timeout(Duration::ZERO, runner.attempts.idle()).await.is_err() {
        tracing::info!(drain_timeout = ?limit, "asked to stop: waiting for the processes that run");
    }
    if timeout(limit, runner.attempts.idle()).await.is_err() {
        tracing::warn!("processes still run; they are ended now");
        runner.attempts.stop_all(Stop::Shutdown);
        if timeout(runner.executor.grace + KILLED, runner.attempts.idle()).await.is_err() {
            tracing::error!("processes do not end; the next start of the agent looks after them");
        }
    }
    let _ = timeout(FAREWELL, runner.attempts.empty()).await;
}
