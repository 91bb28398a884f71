//! The agents connected to this server: who they are, what they can take, how to reach them.
//!
//! One table behind one short lock; nothing here waits or touches the store. [`crate::gateway`]
//! puts connections in and takes them out, [`crate::dispatch`] spends their credit, the API reads.

mod attempts;
mod connection;
mod followed;
pub(crate) mod outbox;
mod reserve;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hetuflow_core::{
    agent::Duty,
    id::{AgentId, EventId, InstanceId, TaskId},
    labels::Labels,
    protocol::{ToAgent, WatchState},
    task::Lease,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use attempts::{Answer, Overdue, Patience, Refusal};
pub(crate) use connection::Connection;
pub(crate) use followed::Following;
use outbox::Unit;
pub(crate) use reserve::{Backlog, Purpose, Reservation};

/// A handle to the table of connections; every method takes a short lock and never waits.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<HashMap<AgentId, Connection>>,
    changes: watch::Sender<u64>,
    draining: CancellationToken,
    /// Taken before the table where both are needed.
    backlog: Mutex<Backlog>,
    /// Who comes first among agents with equal room.
    turn: AtomicUsize,
    /// Something was put back to where dispatch has looked already.
    put_back: AtomicBool,
    followed: followed::Followed,
}

/// A connected agent, as it was when somebody looked.
#[derive(Debug, Clone)]
pub struct Online {
    pub agent_id: AgentId,
    pub session_epoch: i64,
    pub labels: Labels,
    pub duty: Duty,
    pub slots: u32,
    /// Attempts that it could start now, less those on their way.
    pub free: u32,
    pub watches: BTreeMap<String, WatchState>,
}

/// What names one connection: the agent, and the epoch of the session that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) agent_id: AgentId,
    pub(crate) epoch: i64,
}

impl Hub {
    /// A copy of the table, in no particular order.
    pub fn online(&self) -> Vec<Online> {
        let now = Instant::now();
        self.table().iter().filter_map(|(agent_id, connection)| connection.online(agent_id, now)).collect()
    }

    /// Asks the agent to end an attempt; false when it is not connected here or has not been given the
    /// attempt yet. Asking again within a few seconds sends nothing.
    pub fn cancel(&self, agent_id: &AgentId, lease: Lease) -> bool {
        self.table().get_mut(agent_id).is_some_and(|connection| connection.cancel(lease, Instant::now()))
    }

    /// Queues a message; false when the agent is not connected here or its queue is full.
    pub fn send(&self, agent_id: &AgentId, message: ToAgent) -> bool {
        self.table().get(agent_id).is_some_and(|connection| connection.send(message))
    }

    /// The labels of a connected agent were replaced: dispatch and its watches follow.
    pub fn set_labels(&self, agent_id: &AgentId, labels: &Labels) {
        let changed = self.table().get(agent_id).is_some_and(|connection| connection.set_labels(labels));
        if changed {
            self.changed();
        }
    }

    /// Somebody has decided whether a connected agent is given tasks.
    pub fn set_duty(&self, agent_id: &AgentId, duty: Duty) {
        if let Some(connection) = self.table().get_mut(agent_id) {
            connection.set_duty(duty);
        }
        self.changed();
    }

    /// Wakes when an agent came, has more room, or answered; a hint, as every wake-up.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Puts the connection in the table. An older session of the same agent is closed; `false` when the table has a
    /// newer one, which fences this one.
    pub(crate) fn register(&self, key: &SessionKey, connection: Connection) -> bool {
        let mut table = self.table();
        if table.get(&key.agent_id).is_some_and(|held| held.epoch() > key.epoch) {
            return false;
        }
        if let Some(older) = table.insert(key.agent_id.clone(), connection) {
            older.close();
        }
        drop(table);
        self.changed();
        true
    }

    /// Takes the connection out, unless a newer one has its place already.
    pub(crate) fn remove(&self, key: &SessionKey) {
        let mut table = self.table();
        if table.get(&key.agent_id).is_some_and(|held| held.epoch() == key.epoch) {
            table.remove(&key.agent_id);
        }
        drop(table);
        self.changed();
    }

    /// Ends this connection; its session task does the rest.
    pub(crate) fn close(&self, key: &SessionKey) {
        self.with(key, |connection| connection.close());
    }

    /// Ends the agent's session, whichever it is.
    pub(crate) fn cut(&self, agent_id: &AgentId) {
        for (id, epoch) in self.sessions().into_iter().filter(|(id, _)| id == agent_id) {
            self.close(&SessionKey { agent_id: id, epoch });
        }
    }

    /// Every session that this server has to renew.
    pub(crate) fn sessions(&self) -> Vec<(AgentId, i64)> {
        self.table().iter().map(|(agent_id, connection)| (agent_id.clone(), connection.epoch())).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Hands one attempt over in a place that was set aside; `false` when it was not queued.
    fn assign(&self, key: &SessionKey, lease: Lease, unit: &Unit) -> bool {
        self.with(key, |connection| connection.assign(lease, unit)).unwrap_or(false)
    }

    pub(crate) fn credit(&self, key: &SessionKey, free: u32) {
        self.with(key, |connection| connection.credit(free));
        self.changed();
    }

    /// The agent has journalled the attempts. Yields what each answer is, in their order.
    pub(crate) fn accepted(&self, key: &SessionKey, leases: &[Lease]) -> Vec<Answer> {
        let answer =
            |connection: &mut Connection| leases.iter().map(|one| connection.accepted(*one)).collect();
        let answers = self.with(key, answer).unwrap_or_else(|| vec![Answer::Unknown; leases.len()]);
        self.changed();
        answers
    }

    pub(crate) fn refused(&self, key: &SessionKey, lease: Lease) -> Refusal {
        self.with(key, |connection| connection.refused(lease, Instant::now())).unwrap_or(Refusal::Unknown)
    }

    /// The agent stops on purpose: it gets nothing more.
    pub(crate) fn leave(&self, key: &SessionKey) {
        self.with(key, |connection| connection.credit(0));
    }

    /// Splits off what is not about an attempt that was assigned or kept on this connection, its end reported or not.
    pub(crate) fn held<T>(
        &self,
        key: &SessionKey,
        all: Vec<T>,
        lease: impl Fn(&T) -> Lease,
    ) -> (Vec<T>, Vec<T>) {
        let holds = |connection: &mut Connection| {
            all.iter().map(|one| connection.attempts.holds(lease(one))).collect::<Vec<bool>>()
        };
        let mut held = self.with(key, holds).unwrap_or_default().into_iter();
        all.into_iter().partition(|_| held.next().unwrap_or(false))
    }

    /// Results came of what the connection holds; their places may be free before they are stored.
    pub(crate) fn reported(&self, key: &SessionKey, leases: impl Iterator<Item = Lease>) {
        let report = |connection: &mut Connection| {
            leases.filter(|lease| connection.reported(*lease) == Answer::First).count()
        };
        if self.with(key, report).is_some_and(|first| first > 0) {
            self.changed();
        }
    }

    /// The lease under which this connection's agent runs the instance.
    pub(crate) fn lease_of(&self, key: &SessionKey, instance: InstanceId) -> Option<Lease> {
        self.with(key, |connection| connection.attempts.lease_of(instance)).flatten()
    }

    pub(crate) fn ended(&self, key: &SessionKey, leases: &[Lease]) {
        self.with(key, |connection| leases.iter().for_each(|lease| connection.ended(*lease)));
    }

    /// Assignments that wait too long for their answer; those to repeat are queued again.
    pub(crate) fn overdue(&self, key: &SessionKey, patience: &Patience) -> Overdue {
        self.with(key, |connection| connection.repeat_unanswered(patience, Instant::now()))
            .unwrap_or_default()
    }

    /// Keeps the state of a watch that the agent was told to keep.
    pub(crate) fn watch_state(&self, key: &SessionKey, state: WatchState) {
        self.with(key, |connection| connection.watch_state(state));
        self.changed();
    }

    /// What the agent is told to watch from now on; states of other watches are forgotten.
    pub(crate) fn watches(&self, key: &SessionKey, keys: Vec<String>) {
        self.with(key, |connection| connection.watch_only(keys));
    }

    /// The event is told to this session once one of the tasks has ended here.
    pub(crate) fn follow(&self, tasks: &[TaskId], event: EventId, told: &mpsc::Sender<EventId>) -> Following {
        self.shared.followed.follow(tasks, event, told)
    }

    /// Attempts of these tasks have ended, or they never begin.
    pub(crate) fn tasks_ended(&self, tasks: impl Iterator<Item = TaskId>) {
        self.shared.followed.ended(tasks);
    }

    /// How many tasks are followed.
    pub(crate) fn followed(&self) -> usize {
        self.shared.followed.len()
    }

    /// Tells every agent to go elsewhere; newcomers are refused from now on.
    pub(crate) fn drain(&self) {
        self.shared.draining.cancel();
        for connection in self.table().values_mut() {
            connection.credit(0);
            connection.send(ToAgent::Drain);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.is_cancelled()
    }

    pub(crate) fn close_all(&self) {
        for connection in self.table().values() {
            connection.close();
        }
    }

    /// Tasks wait again that had been claimed: dispatch looks from the beginning.
    pub(crate) fn put_back(&self) {
        self.shared.put_back.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened since it was last asked.
    pub(crate) fn take_put_back(&self) -> bool {
        self.shared.put_back.swap(false, Ordering::Relaxed)
    }

    fn with<T>(&self, key: &SessionKey, act: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut table = self.table();
        let connection = table.get_mut(&key.agent_id)?;
        (connection.epoch() == key.epoch).then(|| act(connection))
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<AgentId, Connection>> {
        // A panic while the lock was held leaves at worst one connection's count wrong.
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
