//! The handle that the agent holds, and how watching starts.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use hetuflow_core::{
    Clock,
    id::{AgentId, EventId},
    protocol::{FileBatchAck, FileEvent, FileOutcome, Watch, WatchState},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    WatchError,
    engine::merge,
    lease,
    patrol::Patrols,
    run::{Shared, States},
    state::{State, Telling},
};

#[derive(Debug, Clone)]
pub struct Options {
    /// An SQLite file of the watcher's own, on a local disk. Files beside it are never reported.
    pub state: PathBuf,
    /// Where globs start that do not begin with `/`.
    pub base: PathBuf,
    /// Directories in which watches may be set; empty: anywhere.
    pub roots: Vec<PathBuf>,
    /// Part of every event's id.
    pub agent_id: AgentId,
    pub clock: Clock,
    /// How often everything is looked at, whatever the system's events say.
    pub rescan: Duration,
    /// How often a file system is looked at that sends no events.
    pub poll: Duration,
    /// For how long a file system may give no answer before its watches say so.
    pub patience: Duration,
}

impl Options {
    pub fn new(state: impl Into<PathBuf>, base: impl Into<PathBuf>, agent_id: AgentId) -> Self {
        Self {
            state: state.into(),
            base: base.into(),
            roots: Vec::new(),
            agent_id,
            clock: Clock::system(),
            rescan: Duration::from_mins(15),
            poll: Duration::from_secs(5),
            patience: Duration::from_secs(10),
        }
    }
}

/// Starts watching for what was set in an earlier life, and returns the handle by which that is
/// changed. Ends when `shutdown` is cancelled; [`Watcher::stopped`] tells when it has ended.
pub async fn start(mut options: Options, shutdown: CancellationToken) -> Result<Watcher, WatchError> {
    lease::survive_sigio();
    // Both are compared with paths that the system names, which are absolute.
    options.base = absolute(options.base)?;
    options.state = absolute(options.state)?;
    let state = State::open(&options.state).await?;
    let shared = Arc::new(Shared {
        state,
        agent: options.agent_id.clone(),
        clock: options.clock.clone(),
        wanted: watch::Sender::new(None),
        acknowledged: watch::Sender::new(0),
        mounts: watch::Sender::new(0),
        changes: watch::Sender::new(0),
        states: watch::Sender::new(States::new()),
        stopped: CancellationToken::new(),
    });
    let patrols = Patrols::new(options, Arc::clone(&shared)).await?;
    tokio::spawn(patrols.run(shutdown));
    Ok(Watcher(shared))
}

fn absolute(path: PathBuf) -> Result<PathBuf, WatchError> {
    match std::path::absolute(&path) {
        Ok(absolute) if absolute.to_str().is_some() => Ok(absolute),
        Ok(_) | Err(_) => Err(WatchError::Path { path }),
    }
}

/// A handle to the watcher; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Watcher(Arc<Shared>);

impl Watcher {
    /// Everything that shall be watched. Absolute: what is not named is not watched any more, and what
    /// was remembered of it is forgotten. A watch that is known as it is is left alone.
    /// Takes effect soon; [`Watcher::states`] tells when.
    pub fn set(&self, watches: Vec<Watch>) {
        self.0.wanted.send_replace(Some(watches));
    }

    /// The first events that were not acknowledged, in the order in which they were found, except those of some watches.
    pub async fn pending(&self, except: &[String], limit: u32) -> Result<Vec<FileEvent>, WatchError> {
        self.0.state.pending(except, limit).await
    }

    /// The server takes so many more events of these watches, by their keys; beyond that, files wait on disk.
    pub async fn set_rooms(&self, rooms: &[(String, u64)]) -> Result<(), WatchError> {
        for (key, room) in rooms {
            self.0.state.set_room(key, *room).await?;
        }
        self.0.acknowledged.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Nobody says any more how much the server takes: what is found is kept to be told.
    pub fn forget_rooms(&self) {
        self.0.state.forget_rooms();
        self.0.acknowledged.send_modify(|count| *count += 1);
    }

    /// These events need not be told again, whatever the verdict.
    pub async fn acknowledge(&self, acks: &[FileBatchAck]) -> Result<(), WatchError> {
        self.0.state.acknowledge(acks, self.telling()).await?;
        self.0.acknowledged.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Events that were acknowledged and are to be told once more before anything else, at the start of a connection:
    /// whether the server still knows them says whether its database is an old one. Then, or without an answer, what it
    /// may have forgotten is pending again. They have `room` bytes, unless the first alone is larger.
    pub async fn ask(&self, room: usize) -> Result<Vec<FileEvent>, WatchError> {
        self.0.state.ask(room, self.telling()).await
    }

    /// This server has never known this agent: what was told to another one is none of its business.
    pub async fn forget_told(&self) -> Result<(), WatchError> {
        self.0.state.forget_told().await
    }

    fn telling(&self) -> Telling<'_> {
        Telling { agent: &self.0.agent, now: self.0.clock.now() }
    }

    /// Events whose end files wait for, after the place `last`, each with its place.
    pub async fn awaited(&self, last: i64, limit: u32) -> Result<Vec<(i64, EventId)>, WatchError> {
        self.0.state.open_fates(last, limit).await
    }

    /// Events whose end other files of a strict order wait for, after the place `last`, each with its place.
    pub async fn followed(&self, last: i64, limit: u32) -> Result<Vec<(i64, EventId)>, WatchError> {
        self.0.state.followed(last, limit).await
    }

    /// Counts up whenever it is another one that files of a strict order wait for.
    #[must_use]
    pub fn lined(&self) -> u64 {
        self.0.state.lined()
    }

    /// How their tasks stand: files that may be moved or deleted now, are, and files that may be told now.
    pub async fn settle(&self, outcomes: &[(EventId, FileOutcome)]) -> Result<(), WatchError> {
        self.0.state.decide_fates(outcomes).await?;
        self.0.acknowledged.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Counts up whenever there are new events or other states.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// One state per key that was set.
    pub fn states(&self) -> Vec<WatchState> {
        let mut states: BTreeMap<String, WatchState> = BTreeMap::new();
        for state in self.0.states.borrow().values().flatten() {
            match states.get_mut(&state.key) {
                Some(first) => merge(first, state.clone()),
                None => drop(states.insert(state.key.clone(), state.clone())),
            }
        }
        states.into_values().collect()
    }

    /// Resolves once the watcher has stopped and its state file is closed.
    pub async fn stopped(&self) {
        self.0.stopped.cancelled().await;
    }
}
