//! From a lease to the wire. Whatever was leased is sent, given back, or ended; when the store fails in between, the
//! agent's connection is closed, because its next hello settles what hangs.

use std::{collections::HashMap, sync::Arc};

use hetuflow_core::{
    Clock,
    event::Event,
    id::EventId,
    job::Command,
    protocol::{Assignment, MAX_MESSAGE, ToAgent},
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Claimed, Finish, Store, StoreError};

use super::recent::{Briefing, Recent};
use crate::{
    hub::{Hub, Reservation, SessionKey, outbox::Unit},
    metrics::Metrics,
};

/// Bytes of events' bodies that are read at once.
const BODIES_AT_ONCE: usize = 4 << 20;

/// Sends what was leased. The ingest loop has one for tasks that are leased as they are stored, dispatch for those
/// that it claimed.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Hub,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// What was stored for later.
    pub(crate) recent: Arc<Recent>,
}

/// An attempt that is leased to a session.
#[derive(Debug)]
pub(crate) struct Leased<'a> {
    pub(crate) key: SessionKey,
    pub(crate) lease: Lease,
    pub(crate) attempt: u32,
    pub(crate) command: Option<&'a Command>,
    pub(crate) event: &'a Briefing,
}

/// Why a leased attempt is not on its way.
#[derive(Debug)]
#[must_use]
pub(crate) enum Unsent {
    /// It can never run: it ends now.
    Impossible(String),
    /// Later, or elsewhere.
    NoRoom,
}

impl Dispatcher {
    pub(crate) fn new(store: Arc<dyn Store>, hub: Hub, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { store, hub, clock, metrics, recent: Arc::default() }
    }

    /// Sends what a claim took. Every one of them is seen to, whatever happens to the others.
    pub(super) async fn push_all(
        &self,
        reservation: &mut Reservation,
        mut claimed: Vec<Claimed>,
    ) -> Result<(), StoreError> {
        let mut failed = Ok(());
        claimed.sort_by_key(|claimed| claimed.task.event_id);
        let mut unknown = Vec::new();
        for claimed in claimed {
            match self.recent.take(claimed.task.event_id) {
                Some(event) => failed = failed.and(self.push(reservation, &leased(&claimed, &event)).await),
                None => unknown.push(claimed),
            }
        }
        self.metrics.events_read_again.add(unknown.len() as u64);
        let mut rest = &unknown[..];
        while !rest.is_empty() {
            let ids: Vec<EventId> = rest.iter().map(|claimed| claimed.task.event_id).collect();
            let events = match self.store.events_by_id(&ids, BODIES_AT_ONCE).await {
                Ok(events) => events,
                // One of them cannot be read; the others shall not wait for it.
                Err(StoreError::CorruptRow(_)) if rest.len() > 1 => {
                    return failed.and(self.push_each(reservation, rest).await);
                }
                Err(StoreError::CorruptRow(_)) => Vec::new(),
                Err(error) => {
                    self.put_back_all(rest).await;
                    return Err(error);
                }
            };
            // Without any, nothing is there of any of them.
            let looked = events
                .last()
                .map_or(rest.len(), |last| rest.partition_point(|claimed| claimed.task.event_id <= last.id));
            let (found, later) = rest.split_at(looked);
            failed = failed.and(self.push_some(reservation, found, events).await);
            rest = later;
        }
        failed
    }

    async fn push_some(
        &self,
        reservation: &mut Reservation,
        claimed: &[Claimed],
        events: Vec<Event>,
    ) -> Result<(), StoreError> {
        let events: HashMap<EventId, Briefing> =
            events.iter().map(|event| (event.id, Briefing::of(event))).collect();
        let mut failed = Ok(());
        for claimed in claimed {
            let pushed = match events.get(&claimed.task.event_id) {
                Some(event) => self.push(reservation, &leased(claimed, event)).await,
                None => self.fail(claimed.lease, "its event cannot be read".to_owned()).await,
            };
            failed = failed.and(pushed);
        }
        failed
    }

    async fn push_each(&self, reservation: &mut Reservation, claimed: &[Claimed]) -> Result<(), StoreError> {
        let mut failed = Ok(());
        for claimed in claimed {
            let event = self.store.event(claimed.task.event_id).await.into_iter().collect();
            failed = failed.and(self.push_some(reservation, std::slice::from_ref(claimed), event).await);
        }
        failed
    }

    async fn put_back_all(&self, claimed: &[Claimed]) {
        for claimed in claimed {
            let key = SessionKey { agent_id: claimed.agent_id.clone(), epoch: claimed.session_epoch };
            self.put_back(&key, claimed.lease).await;
        }
    }

    async fn push(&self, reservation: &mut Reservation, leased: &Leased<'_>) -> Result<(), StoreError> {
        match self.try_push(reservation, leased) {
            Ok(()) => Ok(()),
            Err(unsent) => self.settle(&leased.key, leased.lease, unsent).await,
        }
    }

    /// Sends one attempt in a place that was set aside for it. What is not sent is to be settled.
    pub(crate) fn try_push(&self, reservation: &mut Reservation, leased: &Leased<'_>) -> Result<(), Unsent> {
        failpoint!("push.before");
        let unit = unit(leased).map_err(Unsent::Impossible)?;
        if !reservation.assign(&leased.key, leased.lease, &unit) {
            return Err(Unsent::NoRoom);
        }
        failpoint!("push.after");
        self.metrics.tasks_dispatched.inc();
        tracing::debug!(task.id = %leased.lease.task_id, agent.id = %leased.key.agent_id, "task dispatched");
        Ok(())
    }

    pub(crate) async fn settle(
        &self,
        key: &SessionKey,
        lease: Lease,
        unsent: Unsent,
    ) -> Result<(), StoreError> {
        match unsent {
            Unsent::NoRoom => {
                self.put_back(key, lease).await;
                Ok(())
            }
            Unsent::Impossible(reason) => self.fail(lease, reason).await,
        }
    }

    /// The attempt never began. When the store does not hear it, the agent's next hello settles what it was never told.
    async fn put_back(&self, key: &SessionKey, lease: Lease) {
        if self.store.give_back(lease, self.clock.now()).await.is_err() {
            self.hub.close(key);
        }
        self.hub.put_back();
    }

    async fn fail(&self, lease: Lease, message: String) -> Result<(), StoreError> {
        tracing::error!(task.id = %lease.task_id, message, "a task cannot be sent to any agent");
        let now = self.clock.now();
        let outcome = Outcome::because(EndReason::Spawn, message);
        let finish = Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 };
        self.store.finish(&[finish], now, rand::random()).await.map(|_| ())
    }
}

fn leased<'a>(claimed: &'a Claimed, event: &'a Briefing) -> Leased<'a> {
    Leased {
        key: SessionKey { agent_id: claimed.agent_id.clone(), epoch: claimed.session_epoch },
        lease: claimed.lease,
        attempt: claimed.task.attempt,
        command: claimed.task.command.as_ref(),
        event,
    }
}

fn unit(leased: &Leased<'_>) -> Result<Unit, String> {
    let command = leased.command.ok_or("it has no command")?.clone();
    let event = leased.event.brief.clone();
    let assignment = Assignment { lease: leased.lease, attempt: leased.attempt, command, event };
    let assign = serde_json::to_string(&ToAgent::Assign(Box::new(assignment)))
        .map_err(|error| format!("it cannot be written as JSON: {error}"))?;
    if assign.len() > MAX_MESSAGE {
        let size = assign.len();
        return Err(format!("its command is {size} bytes with everything filled in, at most {MAX_MESSAGE}"));
    }
    Ok(Unit::new(leased.lease.instance_id, leased.event.body.clone(), assign))
}
