//! The loop: waits until something asks for a turn, takes it on a thread where it may block, commits
//! what it decided, and tells those who listen. All that can wake it is [`Wake`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hetuflow_core::{
    Clock,
    id::AgentId,
    protocol::{Watch, WatchState},
};
use hetuflow_failpoint::failpoint;
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options, WatchError,
    engine::Engine,
    hint::{self, DirtySet},
    live::Outbox,
    state::State,
    turn::{MAX_OUTBOX, Turn},
};

/// Hints that come together are looked at together: those of a file that is being written, and those of many
/// files. The end of a single file waits for nothing.
const GATHER: Duration = Duration::from_millis(20);

/// So many names in one turn are many files; what comes next is gathered.
const CROWD: usize = 8;

/// Files that are moved or deleted together.
const FATES: u32 = 256;

/// After a failure of the state file, or of a turn.
const RETRY: Duration = Duration::from_secs(1);

/// What the loop shares with the handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: State,
    pub(crate) agent: AgentId,
    pub(crate) clock: Clock,
    /// The last list that was set; the loop looks at the newest only.
    pub(crate) wanted: watch::Sender<Option<Vec<Watch>>>,
    pub(crate) acknowledged: Notify,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) states: watch::Sender<Vec<WatchState>>,
    pub(crate) stopped: CancellationToken,
}

/// The loop and what it owns.
pub(crate) struct Run {
    options: Options,
    shared: Arc<Shared>,
    dirty: Arc<DirtySet>,
    wanted: watch::Receiver<Option<Vec<Watch>>>,
    /// A list that is not in force yet.
    unset: Option<Vec<Watch>>,
    /// In another place during a turn.
    engine: Option<Engine>,
    /// The state file could not be written; shown with every watch.
    trouble: Option<String>,
}

enum Wake {
    Stop,
    /// Another list of watches.
    Wanted,
    /// The system tells of files that somebody finished.
    Finished,
    /// The system tells of other changes.
    Stirred,
    /// There is room in the outbox again.
    Acknowledged,
    /// The digest of a large file is known.
    Digested,
    /// A file may be complete, or a directory is to be walked.
    Due,
}

impl Run {
    pub(crate) async fn new(options: Options, shared: Arc<Shared>) -> Result<Self, WatchError> {
        let wanted = shared.wanted.subscribe();
        let mut run =
            Self { options, shared, dirty: Arc::default(), wanted, unset: None, engine: None, trouble: None };
        run.engine = Some(run.load().await?);
        Ok(run)
    }

    async fn load(&mut self) -> Result<Engine, WatchError> {
        let stored = self.shared.state.load(self.options.clock.now()).await?;
        let source = hint::source(Arc::clone(&self.dirty));
        Ok(Engine::new(self.options.clone(), source, stored)?)
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let _stopped = self.shared.stopped.clone().drop_guard();
        self.publish();
        let mut retry_at = None;
        loop {
            match self.wait(&shutdown, retry_at.take()).await {
                Wake::Stop => break,
                Wake::Finished => self.gather_crowd().await,
                Wake::Stirred => self.gather().await,
                Wake::Wanted => self.unset.clone_from(&self.wanted.borrow_and_update()),
                Wake::Acknowledged | Wake::Digested | Wake::Due => {}
            }
            let worked = self.work().await;
            if let Err(error) = &worked {
                tracing::error!(error = error as &dyn std::error::Error, "watching for files is held up");
                retry_at = Some(Instant::now() + RETRY);
            }
            self.trouble = worked.err().map(|error| explain(&error));
            self.publish();
        }
        self.engine = None;
        self.shared.state.close().await;
    }

    /// `retry_at` is set after a failure; then nothing but a stop is heeded before.
    async fn wait(&mut self, shutdown: &CancellationToken, retry_at: Option<Instant>) -> Wake {
        if let Some(at) = retry_at {
            return tokio::select! {
                () = shutdown.cancelled() => Wake::Stop,
                () = tokio::time::sleep_until(at.into()) => Wake::Due,
            };
        }
        let due = self.engine.as_ref().and_then(|engine| engine.wake_at(Instant::now(), self.outbox()));
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let digested = self.engine.as_ref().map(Engine::digested);
        let digested = async {
            match &digested {
                Some(digested) => digested.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Wake::Stop,
            Ok(()) = self.wanted.changed() => Wake::Wanted,
            () = self.dirty.finished.notified() => Wake::Finished,
            () = self.dirty.stirred.notified() => Wake::Stirred,
            () = self.shared.acknowledged.notified() => Wake::Acknowledged,
            () = digested => Wake::Digested,
            () = due => Wake::Due,
        }
    }

    /// The end of the file that stirs, if it comes soon.
    async fn gather(&mut self) {
        if tokio::time::timeout(GATHER, self.dirty.finished.notified()).await.is_ok() {
            self.gather_crowd().await;
        }
    }

    /// While there are many, a turn for each of them would be most of the work.
    async fn gather_crowd(&mut self) {
        if self.engine.as_ref().is_some_and(|engine| engine.hinted() >= CROWD) {
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn work(&mut self) -> Result<(), WatchError> {
        if self.engine.is_none() {
            // A turn died with its engine. Everything that matters is in the state file.
            self.engine = Some(self.load().await?);
        }
        self.set().await?;
        self.fulfil().await?;
        let turn = self.turn().await?;
        if turn.is_empty() {
            return Ok(());
        }
        let committed = self.shared.state.commit(&turn).await;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match committed {
            Ok(0) => engine.applied(turn),
            Ok(_) => {
                engine.applied(turn);
                self.shared.changes.send_modify(|count| *count += 1);
            }
            Err(error) => {
                engine.failed(&turn, Instant::now() + RETRY);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts a new list in force. Each step is stored before it is in force; where one fails, the
    /// whole is planned again.
    async fn set(&mut self) -> Result<(), WatchError> {
        let (Some(engine), Some(watches)) = (&mut self.engine, &self.unset) else { return Ok(()) };
        let mut plan = engine.plan(watches.clone());
        engine.refuse(&mut plan);
        for slot in plan.forget {
            self.shared.state.forget(&slot).await?;
            engine.forget(&slot);
        }
        for admission in plan.admit {
            let (definition, roots, uncovered) =
                (&admission.definition, &admission.roots, &admission.uncovered);
            self.shared.state.admit(definition, roots, uncovered).await?;
            engine.admit(admission);
        }
        self.unset = None;
        Ok(())
    }

    /// Moves and deletes files whose tasks have ended, before anybody looks whether they are there.
    async fn fulfil(&mut self) -> Result<(), WatchError> {
        loop {
            let fates = self.shared.state.decided_fates(FATES).await?;
            let Some(mut engine) = self.engine.take_if(|_| !fates.is_empty()) else { return Ok(()) };
            let done: Vec<i64> = fates.iter().map(|fate| fate.seq).collect();
            let (engine, gone) = tokio::task::spawn_blocking(move || {
                let gone = engine.fulfil(&fates);
                (engine, gone)
            })
            .await?;
            self.engine = Some(engine);
            failpoint!("fate.before_commit");
            self.shared.state.finish_fates(&done, &gone).await?;
        }
    }

    async fn turn(&mut self) -> Result<Turn, JoinError> {
        let Some(mut engine) = self.engine.take() else { return Ok(Turn::new(0)) };
        let room = self.room();
        let (engine, turn) = tokio::task::spawn_blocking(move || {
            let turn = engine.turn(room);
            (engine, turn)
        })
        .await?;
        self.engine = Some(engine);
        Ok(turn)
    }

    fn room(&self) -> usize {
        MAX_OUTBOX.saturating_sub(usize::try_from(self.shared.state.waiting()).unwrap_or(usize::MAX))
    }

    fn outbox(&self) -> Outbox {
        if Turn::new(self.room()).has_no_room() { Outbox::Full } else { Outbox::HasRoom }
    }

    /// Tells of states that changed.
    fn publish(&self) {
        let Some(engine) = &self.engine else { return };
        let mut states = engine.states();
        if let Some(damage) = self.shared.state.damage() {
            for state in &mut states {
                state.problem =
                    Some(state.problem.take().map_or(damage.into(), |one| format!("{one}; {damage}")));
            }
        }
        if let Some(trouble) = &self.trouble {
            for state in &mut states {
                state.problem = Some(trouble.clone());
            }
        }
        let differs = self.shared.states.send_if_modified(|shown| {
            let differs = *shown != states;
            *shown = states;
            differs
        });
        if differs {
            self.shared.changes.send_modify(|count| *count += 1);
        }
    }
}

/// An error with what is behind it, on one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
