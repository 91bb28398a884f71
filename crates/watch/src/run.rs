//! The loop of one patrol: waits until something asks for a turn, takes it on a thread where it may block, commits
//! what it decided, and tells those who listen. All that can wake it is [`Wake`]. Started by `patrol`.

mod show;

use std::{
    collections::BTreeMap,
    pin::pin,
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
    sync::{oneshot, watch},
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options, WatchError,
    engine::Engine,
    hint::{DirtySet, Sources},
    live::Outbox,
    patrol::Charge,
    since::Since,
    state::State,
    turn::{MAX_OUTBOX, Rooms, Turn},
    worker::{Pulse, Worker},
};

/// The name of the patrol that has all watches but those that are alone, whose patrols have the names of their slots.
pub(crate) const COMMON: &str = "";

/// Hints that come together are looked at together: those of a file that is being written, and those of many
/// files. The end of a single file waits for nothing.
const GATHER: Duration = Duration::from_millis(20);

/// So many names in one turn are many files; what comes next is gathered.
const CROWD: usize = 8;

/// Files that are moved or deleted together.
const FATES: u32 = 256;

/// After a failure of the state file, or of a turn.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// A stop waits so long for a turn that is under way, at most. What it would decide is found again.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two looks whether the thread gets answers, once it had none for too long.
const CHECK: Duration = Duration::from_millis(100);

/// The states that each patrol tells of, by its name.
pub(crate) type States = BTreeMap<String, Vec<WatchState>>;

/// What the loops share with the handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: State,
    pub(crate) agent: AgentId,
    pub(crate) clock: Clock,
    /// The last list that was set; the newest only is looked at.
    pub(crate) wanted: watch::Sender<Option<Vec<Watch>>>,
    /// Counts acknowledgements.
    pub(crate) acknowledged: watch::Sender<u64>,
    /// Counts changes of the table of mounts.
    pub(crate) mounts: watch::Sender<u64>,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) states: watch::Sender<States>,
    pub(crate) stopped: CancellationToken,
}

/// The loop and what it owns.
pub(crate) struct Run {
    name: String,
    options: Options,
    shared: Arc<Shared>,
    since: Since,
    dirty: Arc<DirtySet>,
    orders: Orders,
    thread: Thread,
    /// The state file could not be written; shown with every watch.
    trouble: Option<String>,
}

/// What it shall do, and how far that is done.
struct Orders {
    charges: watch::Receiver<Charge>,
    acknowledged: watch::Receiver<u64>,
    mounts: watch::Receiver<u64>,
    /// A charge that is not in force yet.
    unset: Option<Charge>,
    in_force: watch::Sender<u64>,
    /// How many fates were decided when they were last looked for.
    fates_seen: Option<u64>,
    /// Likewise for lines of a strict order.
    lines_seen: Option<u64>,
}

/// Where files are looked at.
struct Thread {
    /// Elsewhere during a turn.
    engine: Option<Engine>,
    worker: Option<Worker>,
    pulse: Arc<Pulse>,
    hangs: watch::Sender<bool>,
}

enum Wake {
    Stop,
    /// Another charge.
    Charged,
    /// The system tells of files that somebody finished.
    Finished,
    /// The system tells of other changes.
    Stirred,
    /// Something was mounted or unmounted.
    Mounted,
    /// There is room in the outbox again.
    Acknowledged,
    /// The digest of a large file is known.
    Digested,
    /// A file may be complete, or a directory is to be walked.
    Due,
}

impl Run {
    pub(crate) fn new(
        name: &str,
        options: Options,
        shared: Arc<Shared>,
        since: Since,
        charges: watch::Receiver<Charge>,
        (in_force, hangs): (watch::Sender<u64>, watch::Sender<bool>),
    ) -> Self {
        let (acknowledged, mounts) = (shared.acknowledged.subscribe(), shared.mounts.subscribe());
        let orders = Orders {
            charges,
            acknowledged,
            mounts,
            unset: None,
            in_force,
            fates_seen: None,
            lines_seen: None,
        };
        let thread = Thread { engine: None, worker: None, pulse: Arc::new(Pulse::new()), hangs };
        let (name, dirty) = (name.to_owned(), Arc::default());
        Self { name, options, shared, since, dirty, orders, thread, trouble: None }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        self.attend(&shutdown).await;
        self.shared.states.send_modify(|states| drop(states.remove(&self.name)));
    }

    async fn attend(&mut self, shutdown: &CancellationToken) {
        let mut retry_at = Some(Instant::now());
        loop {
            match self.wait(shutdown, retry_at.take()).await {
                Wake::Stop => break,
                Wake::Finished => self.gather_crowd().await,
                Wake::Stirred => self.gather().await,
                Wake::Charged => self.orders.unset = Some(self.orders.charges.borrow_and_update().clone()),
                Wake::Mounted => self.thread.engine.iter_mut().for_each(Engine::mounted),
                Wake::Acknowledged | Wake::Digested | Wake::Due => {}
            }
            let worked = self.work(shutdown).await;
            if let Err(error) = &worked {
                tracing::error!(error = error as &dyn std::error::Error, "watching for files is held up");
                retry_at = Some(Instant::now() + RETRY);
            }
            self.trouble = worked.err().map(|error| show::explain(&error));
            self.publish();
        }
    }

    /// `retry_at` is set after a failure; then nothing but a stop is heeded before.
    async fn wait(&mut self, shutdown: &CancellationToken, retry_at: Option<Instant>) -> Wake {
        if let Some(at) = retry_at {
            return tokio::select! {
                () = shutdown.cancelled() => Wake::Stop,
                () = sleep_until(at.into()) => Wake::Due,
            };
        }
        let due =
            self.thread.engine.as_ref().and_then(|engine| engine.wake_at(Instant::now(), self.outbox()));
        let due = async {
            match due {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let digested = self.thread.engine.as_ref().map(Engine::digested);
        let digested = async {
            match &digested {
                Some(digested) => digested.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Wake::Stop,
            Ok(()) = self.orders.charges.changed() => Wake::Charged,
            () = self.dirty.finished.notified() => Wake::Finished,
            () = self.dirty.stirred.notified() => Wake::Stirred,
            Ok(()) = self.orders.mounts.changed() => Wake::Mounted,
            Ok(()) = self.orders.acknowledged.changed() => Wake::Acknowledged,
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
        if self.thread.engine.as_ref().is_some_and(|engine| engine.hinted() >= CROWD) {
            sleep(GATHER).await;
        }
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), WatchError> {
        if self.thread.engine.is_none() {
            self.begin()?;
        }
        self.set().await?;
        self.fulfil(stop).await?;
        self.take_heads().await?;
        let (room, rooms) = (self.room(), self.shared.state.rooms());
        let Some(turn) = self.look(stop, move |engine| engine.turn(room, rooms)).await? else {
            return Ok(());
        };
        if turn.is_empty() {
            return self.take_marks().await;
        }
        let committed = self.shared.state.commit(&turn).await;
        let Some(engine) = &mut self.thread.engine else { return Ok(()) };
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
        self.take_marks().await
    }

    async fn take_marks(&mut self) -> Result<(), WatchError> {
        let Some(engine) = self.thread.engine.as_mut().filter(|engine| engine.is_mark_due()) else {
            return Ok(());
        };
        engine.take_marks(&self.shared.state.told_since().await?);
        Ok(())
    }

    /// At the start, and where a turn died with its engine. Everything that matters is in the state file.
    fn begin(&mut self) -> Result<(), WatchError> {
        let source = Sources::new(Arc::clone(&self.dirty));
        let pulse = Arc::clone(&self.thread.pulse);
        self.thread.engine = Some(Engine::new(self.options.clone(), source, self.since.clone(), pulse)?);
        self.thread.hangs.send_replace(false);
        self.orders.unset = Some(self.orders.charges.borrow_and_update().clone());
        Ok(())
    }

    /// Puts a charge in force. Each step is stored before it is in force; where one fails, the whole is planned again.
    async fn set(&mut self) -> Result<(), WatchError> {
        let (Some(engine), Some(charge)) = (&mut self.thread.engine, &self.orders.unset) else {
            return Ok(());
        };
        for one in charge.watches.iter().filter(|one| !engine.knows(&one.slot)).collect::<Vec<_>>() {
            let stored = self.shared.state.load(&one.slot, self.options.clock.now()).await?;
            if let Some(stored) = stored {
                engine.resume(stored);
            }
        }
        let mut plan = engine.plan(&charge.watches);
        engine.refuse(&mut plan);
        for slot in plan.forget {
            if charge.elsewhere.contains(&slot) {
                engine.let_go(&slot);
                continue;
            }
            self.shared.state.forget(&slot).await?;
            engine.forget(&slot);
        }
        for admission in plan.admit {
            let (definition, roots, uncovered) =
                (&admission.definition, &admission.roots, &admission.uncovered);
            self.shared.state.admit(definition, roots, uncovered).await?;
            engine.admit(admission);
        }
        self.orders.in_force.send_replace(charge.number);
        self.orders.unset = None;
        (self.orders.fates_seen, self.orders.lines_seen) = (None, None);
        Ok(())
    }

    /// Moves and deletes files whose tasks have ended, before anybody looks whether they are there.
    async fn fulfil(&mut self, stop: &CancellationToken) -> Result<(), WatchError> {
        loop {
            let Some(engine) = &self.thread.engine else { return Ok(()) };
            let slots = engine.slots();
            let fates = self.shared.state.decided_fates(&slots, &mut self.orders.fates_seen, FATES).await?;
            if fates.is_empty() {
                return Ok(());
            }
            let done: Vec<i64> = fates.iter().map(|fate| fate.seq).collect();
            let Some(gone) = self.look(stop, move |engine| engine.fulfil(&fates)).await? else {
                return Ok(());
            };
            failpoint!("fate.before_commit");
            self.shared.state.finish_fates(&done, &gone).await?;
        }
    }

    /// Who is ahead in lines, where that has changed.
    async fn take_heads(&mut self) -> Result<(), WatchError> {
        let Some(engine) = &mut self.thread.engine else { return Ok(()) };
        let slots = engine.slots_with_lines();
        if slots.is_empty() {
            return Ok(());
        }
        if let Some(heads) = self.shared.state.heads(&slots, &mut self.orders.lines_seen).await? {
            engine.take_heads(&slots, heads);
        }
        Ok(())
    }

    /// Has the engine do what may block, on the thread for that. `None`: a stop does not wait for the answer any more.
    async fn look<T: Send + 'static>(
        &mut self,
        stop: &CancellationToken,
        work: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<Option<T>, WatchError> {
        let Some(mut engine) = self.thread.engine.take() else { return Ok(None) };
        self.thread.pulse.beat();
        let job = move || {
            let found = work(&mut engine);
            (engine, found)
        };
        let mut answer = pin!(self.thread.give(job)?);
        let pulse = Arc::clone(&self.thread.pulse);
        let patience = self.options.patience;
        let mut left = pin!(async {
            stop.cancelled().await;
            sleep(patience.saturating_sub(pulse.quiet()).min(FAREWELL)).await;
        });
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    let Ok((engine, found)) = answer else {
                        self.thread.worker = None;
                        return Err(WatchError::Turn);
                    };
                    self.thread.engine = Some(engine);
                    self.thread.hangs.send_if_modified(std::mem::take);
                    return Ok(Some(found));
                }
                () = &mut left => return Ok(None),
                () = sleep(patience.saturating_sub(pulse.quiet()).max(CHECK)) => self.tell_hanging(),
            }
        }
    }

    fn room(&self) -> usize {
        MAX_OUTBOX.saturating_sub(usize::try_from(self.shared.state.waiting()).unwrap_or(usize::MAX))
    }

    fn outbox(&self) -> Outbox {
        match Turn::new(self.room(), Rooms::new()) {
            turn if turn.has_no_room() => Outbox::Full,
            turn if turn.has_room_for_batch() => Outbox::HasRoom,
            _ => Outbox::Crowded,
        }
    }
}

impl Thread {
    fn give<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, WatchError> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start().map_err(WatchError::Thread)?),
        };
        Ok(worker.give(job))
    }
}
