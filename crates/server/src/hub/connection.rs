//! One agent's connection: its credit, its attempts, its watches, and the way to its writer.
//!
//! Credit is absolute: the agent says how many processes it could start, counting every assignment
//! that it has accepted. Assignments that it had not answered when it spoke are taken off here, so
//! one that crosses a credit message on the wire is not spent twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hetuflow_core::{
    agent::Duty,
    id::AgentId,
    labels::{Labels, Lane},
    protocol::{ToAgent, WatchState},
    task::Lease,
};
use hetuflow_store::Session;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Online,
    attempts::{Answer, Attempts, Overdue, Patience, Refusal},
    outbox::{Outbox, Unit},
};

/// After a refusal nothing more is given to the agent for this long: it may refuse everything, and every
/// refusal costs a claim.
const REST: Duration = Duration::from_secs(1);

/// A cancellation is repeated no more often than this while its result is awaited.
const ASK_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Connection {
    session_epoch: i64,
    labels: watch::Sender<Labels>,
    duty: Duty,
    slots: u32,
    granted: u32,
    /// Places that are set aside.
    reserved: u32,
    rests_until: Option<Instant>,
    pub(super) attempts: Attempts,
    told_to_watch: BTreeSet<String>,
    watches: BTreeMap<String, WatchState>,
    outbox: Outbox,
    closing: CancellationToken,
}

impl Connection {
    /// Without credit: the agent grants it.
    pub(crate) fn new(
        opened: &Session,
        labels: watch::Sender<Labels>,
        slots: u32,
        outbox: Outbox,
        closing: CancellationToken,
    ) -> Self {
        Self {
            session_epoch: opened.epoch,
            labels,
            duty: opened.duty,
            slots,
            granted: 0,
            reserved: 0,
            rests_until: None,
            attempts: Attempts::kept(&opened.keep),
            told_to_watch: BTreeSet::new(),
            watches: BTreeMap::new(),
            outbox,
            closing,
        }
    }

    pub(super) fn epoch(&self) -> i64 {
        self.session_epoch
    }

    pub(super) fn online(&self, agent_id: &AgentId, now: Instant) -> Option<Online> {
        (!self.closing.is_cancelled()).then(|| Online {
            agent_id: agent_id.clone(),
            session_epoch: self.session_epoch,
            labels: self.labels.borrow().clone(),
            duty: self.duty,
            slots: self.slots,
            free: self.free(now),
            watches: self.watches.clone(),
        })
    }

    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    pub(super) fn send(&self, message: ToAgent) -> bool {
        !self.closing.is_cancelled() && self.outbox.try_send(message)
    }

    /// Whether they differ from before.
    pub(super) fn set_labels(&self, labels: &Labels) -> bool {
        self.labels.send_if_modified(|held| {
            let differs = held != labels;
            if differs {
                held.clone_from(labels);
            }
            differs
        })
    }

    pub(super) fn set_duty(&mut self, duty: Duty) {
        self.duty = duty;
    }

    pub(super) fn credit(&mut self, free: u32) {
        self.granted = free;
    }

    pub(super) fn admitted_by(&self, lane: &Lane, agent_id: &AgentId) -> bool {
        lane.admits(agent_id, &self.labels.borrow())
    }

    pub(super) fn reserve(&mut self) {
        self.reserved += 1;
    }

    pub(super) fn unreserve(&mut self, count: u32) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// In a place that was set aside, if it is still to be had: the agent may have taken credit back.
    pub(super) fn assign(&mut self, lease: Lease, unit: &Unit) -> bool {
        self.unreserve(1);
        let possible = !self.closing.is_cancelled() && self.free(Instant::now()) > 0;
        let queued = possible && self.outbox.try_assign(unit.clone());
        if queued {
            self.attempts.sent(lease, unit.clone());
        }
        queued
    }

    pub(super) fn accepted(&mut self, lease: Lease) -> Answer {
        let answer = self.attempts.answered(lease);
        if answer == Answer::First {
            // From here on the agent counts it itself; until it says so, the place is taken.
            self.granted = self.granted.saturating_sub(1);
        }
        answer
    }

    pub(super) fn refused(&mut self, lease: Lease, now: Instant) -> Refusal {
        self.rests_until = Some(now + REST);
        self.attempts.refused(lease)
    }

    /// The agent says how it ended. When that is its first answer, its place is free again at once: the agent has never
    /// taken it off the credit that it told.
    pub(super) fn reported(&mut self, lease: Lease) -> Answer {
        self.attempts.answered(lease)
    }

    pub(super) fn ended(&mut self, lease: Lease) {
        self.attempts.ended(lease);
    }

    pub(super) fn cancel(&mut self, lease: Lease, now: Instant) -> bool {
        match self.attempts.ask_to_end(lease, now, ASK_AGAIN) {
            None => false,
            Some(false) => true,
            Some(true) => self.send(ToAgent::Cancel { lease }),
        }
    }

    pub(super) fn repeat_unanswered(&mut self, patience: &Patience, now: Instant) -> Overdue {
        let outbox = &self.outbox;
        self.attempts.repeat_unanswered(patience, now, |unit| outbox.try_assign(unit))
    }

    pub(super) fn watch_only(&mut self, keys: Vec<String>) {
        self.told_to_watch = keys.into_iter().collect();
        let told = &self.told_to_watch;
        self.watches.retain(|key, _| told.contains(key));
    }

    pub(super) fn watch_state(&mut self, state: WatchState) {
        if self.told_to_watch.contains(&state.key) {
            self.watches.insert(state.key.clone(), state);
        }
    }

    pub(super) fn free(&self, now: Instant) -> u32 {
        let rests = self.duty == Duty::Drained || self.rests_until.is_some_and(|until| now < until);
        if rests || self.closing.is_cancelled() {
            return 0;
        }
        let granted = self.granted.min(self.slots).saturating_sub(self.attempts.unanswered());
        granted.min(self.outbox.room()).saturating_sub(self.reserved)
    }
}
