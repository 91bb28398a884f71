//! The table of attempts that this agent holds: written by their actors, read by the link, which
//! sends whatever the table shows and the server does not know yet. It is the memory of what the
//! journal has on disk, plus what only this life of the agent needs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hetuflow_core::{
    id::InstanceId,
    protocol::{Held, HeldPhase, RunResult},
    task::Lease,
};
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

/// Ends that the server may leave unacknowledged before the agent takes no more work. A hello names
/// every attempt that is held, and must fit into one message.
const MAX_ENDED: usize = 1000;

/// For so long nobody needs to hear of a new attempt: most processes have ended by then, and the result says all of it.
const QUIET: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub(crate) struct Attempts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: u32,
    table: Mutex<Table>,
    /// Counts changes of the table.
    changes: watch::Sender<u64>,
    /// Counts those of which the server should hear at once.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    attempts: BTreeMap<InstanceId, Attempt>,
    /// The agent stops: nothing new starts.
    draining: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) lease: Lease,
    pub(crate) phase: Phase,
    /// Pieces of output in its spool.
    pub(crate) pieces: u64,
    added: Instant,
    stop: watch::Sender<Option<Stop>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// On its way into the journal. It has a slot, and nobody may be told of it yet.
    Arriving,
    /// In the journal; its process is about to start.
    Waiting,
    Running {
        started_at: Timestamp,
    },
    /// The result is to be sent until the server acknowledges it.
    Ended(Box<RunResult>),
}

/// Why an attempt shall end before its process does. The first word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    /// It is not this agent's any more: its end interests nobody.
    Fenced,
    /// The agent stops and has waited long enough.
    Shutdown,
}

impl Attempts {
    pub(crate) fn new(slots: u32) -> Self {
        Self(Arc::new(Inner { slots, table: Mutex::default(), changes: counter(), news: counter() }))
    }

    /// Yields what the attempt's actor listens to.
    pub(crate) fn add(&self, lease: Lease, phase: Phase, pieces: u64) -> watch::Receiver<Option<Stop>> {
        let (stop, stopped) = watch::channel(None);
        let attempt = Attempt { lease, phase, pieces, added: Instant::now(), stop };
        self.change(|table| table.attempts.insert(lease.instance_id, attempt));
        stopped
    }

    pub(crate) fn set_phase(&self, instance_id: InstanceId, phase: Phase) {
        let is_quiet = self.change(|table| {
            let attempt = table.attempts.get_mut(&instance_id)?;
            attempt.phase = phase;
            Some(attempt.is_quiet(Instant::now()))
        });
        if is_quiet == Some(false) {
            self.tell();
        }
    }

    pub(crate) fn set_pieces(&self, instance_id: InstanceId, pieces: u64) {
        self.change(|table| {
            if let Some(attempt) = table.attempts.get_mut(&instance_id) {
                attempt.pieces = pieces;
            }
        });
        self.tell();
    }

    pub(crate) fn remove(&self, instance_id: InstanceId) -> Option<Attempt> {
        self.change(|table| table.attempts.remove(&instance_id))
    }

    /// Asks the attempt to end; false when this lease is not held.
    pub(crate) fn stop(&self, lease: Lease, stop: Stop) -> bool {
        let table = self.table();
        let held = table.attempts.get(&lease.instance_id).filter(|attempt| attempt.lease == lease);
        held.is_some_and(|attempt| {
            attempt.ask(stop);
            true
        })
    }

    pub(crate) fn stop_all(&self, stop: Stop) {
        self.table().attempts.values().for_each(|attempt| attempt.ask(stop));
    }

    /// From here on there is no room.
    pub(crate) fn drain(&self) {
        self.change(|table| table.draining = true);
        self.tell();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.table().draining
    }

    /// Processes that could start now.
    pub(crate) fn free(&self) -> u32 {
        self.free_beside(Attempt::is_open)
    }

    /// The same without those that the server has not heard of: it takes them off by itself until it has an answer.
    pub(crate) fn credit(&self, is_told: impl Fn(InstanceId) -> bool) -> u32 {
        self.free_beside(|attempt| attempt.is_open() && is_told(attempt.lease.instance_id))
    }

    fn free_beside(&self, takes_a_slot: impl Fn(&Attempt) -> bool) -> u32 {
        let table = self.table();
        let taken = table.attempts.values().filter(|attempt| takes_a_slot(attempt)).count();
        let ended = table.attempts.values().filter(|attempt| !attempt.is_open()).count();
        let free = self.0.slots.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        if table.draining || ended >= MAX_ENDED { 0 } else { free }
    }

    pub(crate) fn get(&self, instance_id: InstanceId) -> Option<Attempt> {
        self.table().attempts.get(&instance_id).cloned()
    }

    /// Lets `read` look at all of them, in the order of their ids. It must not call back.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&BTreeMap<InstanceId, Attempt>) -> T) -> T {
        read(&self.table().attempts)
    }

    pub(crate) fn held(&self) -> Vec<Held> {
        self.table().attempts.values().map(Attempt::held).collect()
    }

    /// Wakes when there is something to say that does not wait.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// Waits until the journal has answered for everything that was assigned.
    pub(crate) async fn arrived(&self) {
        self.until(|table| !table.attempts.values().any(|attempt| attempt.phase == Phase::Arriving)).await;
    }

    /// Waits until no process runs.
    pub(crate) async fn idle(&self) {
        self.until(|table| !table.attempts.values().any(Attempt::is_open)).await;
    }

    /// Waits until the server has acknowledged everything.
    pub(crate) async fn empty(&self) {
        self.until(|table| table.attempts.is_empty()).await;
    }

    async fn until(&self, done: impl Fn(&Table) -> bool) {
        // The sender is in `self`, so waiting fails only when nobody is left to care.
        let _ = self.0.changes.subscribe().wait_for(|_| done(&self.table())).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let changed = change(&mut self.table());
        self.0.changes.send_modify(|count| *count += 1);
        changed
    }

    fn tell(&self) {
        self.0.news.send_modify(|count| *count += 1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// It needs a slot: its process runs or is about to.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    /// That it was taken, and started, may wait for what comes next.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.is_open() && self.pieces == 0 && now < self.loud_at()
    }

    /// From when on it is not quiet any more.
    pub(crate) fn loud_at(&self) -> Instant {
        self.added + QUIET
    }

    fn held(&self) -> Held {
        let phase = if self.is_open() { HeldPhase::Running } else { HeldPhase::Ended };
        Held { lease: self.lease, phase }
    }

    fn ask(&self, stop: Stop) {
        self.stop.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(stop);
            first
        });
    }
}

fn counter() -> watch::Sender<u64> {
    watch::Sender::new(0)
}

#[cfg(test)]
mod tests {
    use hetuflow_core::id::TaskId;

    use super::*;

    fn lease() -> Lease {
        let time = Timestamp::UNIX_EPOCH;
        Lease { task_id: TaskId::at(time), instance_id: InstanceId::at(time), fence: 1 }
    }

    #[test]
    fn slots_are_held_by_what_runs() {
        let attempts = Attempts::new(2);
        let one = lease();
        let _stopped = attempts.add(one, Phase::Waiting, 0);
        assert_eq!(attempts.free(), 1);
        attempts.drain();
        assert_eq!(attempts.free(), 0);
    }

    #[test]
    fn the_first_word_holds() {
        let attempts = Attempts::new(1);
        let one = lease();
        let stopped = attempts.add(one, Phase::Waiting, 0);
        assert!(!attempts.stop(Lease { fence: 2, ..one }, Stop::Fenced), "another lease");
        assert!(attempts.stop(one, Stop::Cancelled));
        attempts.stop_all(Stop::Shutdown);
        assert_eq!(*stopped.borrow(), Some(Stop::Cancelled));
    }
}
