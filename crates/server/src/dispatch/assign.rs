//! From a claim to the wire. Whatever was claimed is sent, given back, or ended; when the store fails
//! in between, the agent's connection is closed, because its next hello settles what hangs.

use std::{collections::HashMap, sync::Arc};

use hetuflow_core::{
    event::{Event, FileFacts, SourceKind},
    id::EventId,
    protocol::{Assignment, EventBrief, MAX_MESSAGE, ToAgent},
    task::{EndReason, Outcome},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Claimed, Finish, Slot, StoreError, WaitingLane};

use super::slots::slots;
use crate::{
    AppState,
    hub::{SessionKey, outbox::Unit},
};

/// Events that are kept while one tick lasts: many tasks of one event are common, many events are not.
const MAX_EVENTS: usize = 32;

/// One tick's work.
pub(super) struct Desk<'a> {
    state: &'a AppState,
    turn: usize,
    events: HashMap<EventId, Arc<Event>>,
}

/// Why a claimed attempt is not on its way.
#[derive(Debug)]
enum Unsent {
    /// It can never run: it ends now.
    Impossible(String),
    /// Later, or elsewhere.
    NoRoom,
    /// Its event could not be read now.
    Store(StoreError),
}

impl<'a> Desk<'a> {
    pub(super) fn new(state: &'a AppState, turn: usize) -> Self {
        Self { state, turn, events: HashMap::new() }
    }

    /// Gives tasks of the lane away until it is empty or nobody has room for it.
    pub(super) async fn serve(&mut self, lane: &WaitingLane) -> Result<(), StoreError> {
        loop {
            let slots = slots(&lane.lane, &self.state.hub.online(), self.turn);
            if slots.is_empty() {
                return Ok(());
            }
            let claimed = match self.state.store.claim(lane.id, &slots, self.state.clock.now()).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    self.doubt(&slots);
                    return Err(error);
                }
            };
            let emptied = claimed.len() < slots.len();
            let mut failed = Ok(());
            for claimed in claimed {
                // Every one of them is seen to, whatever happens to the others.
                failed = failed.and(self.push(claimed).await);
            }
            failed?;
            if emptied {
                return Ok(());
            }
        }
    }

    /// A claim that failed may still have been committed. What it leased would wait for ever while the
    /// sessions live, so they end.
    fn doubt(&self, slots: &[Slot]) {
        for slot in slots {
            self.state.hub.close(&SessionKey { agent_id: slot.agent_id.clone(), epoch: slot.session_epoch });
        }
    }

    async fn push(&mut self, claimed: Claimed) -> Result<(), StoreError> {
        failpoint!("push.before");
        let key = SessionKey { agent_id: claimed.agent_id.clone(), epoch: claimed.session_epoch };
        let unsent = match self.unit(&claimed).await {
            Err(unsent) => unsent,
            Ok(unit) if !self.state.hub.assign(&key, claimed.lease, &unit) => Unsent::NoRoom,
            Ok(_) => {
                failpoint!("push.after");
                self.state.metrics.tasks_dispatched.inc();
                tracing::debug!(task.id = %claimed.task.id, agent.id = %key.agent_id, "task dispatched");
                return Ok(());
            }
        };
        let settled = self.take_back(&claimed, unsent).await;
        if settled.is_err() {
            // Its next hello settles what it was never told.
            self.state.hub.close(&key);
        }
        settled
    }

    async fn take_back(&self, claimed: &Claimed, unsent: Unsent) -> Result<(), StoreError> {
        let give_back = self.state.store.give_back(claimed.lease, self.state.clock.now());
        match unsent {
            Unsent::NoRoom => give_back.await.map(|_| ()),
            Unsent::Store(error) => give_back.await.and(Err(error)),
            Unsent::Impossible(message) => self.fail(claimed, message).await,
        }
    }

    async fn unit(&mut self, claimed: &Claimed) -> Result<Unit, Unsent> {
        let event = match self.event(claimed.task.event_id).await {
            Ok(event) => event,
            Err(error @ (StoreError::NotFound | StoreError::CorruptRow(_))) => {
                return Err(Unsent::Impossible(format!("its event cannot be read: {error}")));
            }
            Err(error) => return Err(Unsent::Store(error)),
        };
        let command =
            claimed.task.command.clone().ok_or_else(|| Unsent::Impossible("it has no command".to_owned()))?;
        let assignment =
            Assignment { lease: claimed.lease, attempt: claimed.task.attempt, command, event: brief(&event) };
        let assign = serde_json::to_string(&ToAgent::Assign(Box::new(assignment)))
            .map_err(|error| Unsent::Impossible(format!("it cannot be written as JSON: {error}")))?;
        if assign.len() > MAX_MESSAGE {
            let message = format!(
                "its command is {} bytes with everything filled in, at most {MAX_MESSAGE}",
                assign.len()
            );
            return Err(Unsent::Impossible(message));
        }
        Ok(Unit::new(claimed.lease.instance_id, event.body.clone(), assign))
    }

    async fn event(&mut self, id: EventId) -> Result<Arc<Event>, StoreError> {
        if let Some(event) = self.events.get(&id) {
            return Ok(Arc::clone(event));
        }
        let event = Arc::new(self.state.store.event(id).await?);
        if self.events.len() == MAX_EVENTS {
            self.events.clear();
        }
        self.events.insert(id, Arc::clone(&event));
        Ok(event)
    }

    async fn fail(&self, claimed: &Claimed, message: String) -> Result<(), StoreError> {
        tracing::error!(task.id = %claimed.task.id, trigger = claimed.task.trigger, message, "a task cannot be sent to any agent");
        let now = self.state.clock.now();
        let finish = Finish {
            lease: claimed.lease,
            outcome: Outcome::because(EndReason::Spawn, message),
            started_at: None,
            finished_at: now,
            output_dropped: 0,
        };
        self.state.store.finish(&[finish], now, rand::random()).await.map(|_| ())
    }
}

fn brief(event: &Event) -> EventBrief {
    let file = || serde_json::from_slice::<FileFacts>(&event.body).ok();
    EventBrief {
        id: event.id,
        event_type: event.event_type.clone(),
        source: event.source.clone(),
        subject: event.subject.clone(),
        body_size: event.body.len() as u64,
        file: (event.kind == SourceKind::File).then(file).flatten(),
    }
}
