//! Events: accepted once, kept with their bytes.

use std::net::IpAddr;

use async_trait::async_trait;
use hetuflow_core::{
    event::{DecisionOutcome, DedupeKey, Event, SourceKind},
    id::{EventId, Namespace, StatusToken, TaskId},
    task::{Lease, NewTask},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Leadership, Page, Slot, StoreError};

/// One event with all that follows from it.
#[derive(Debug, Clone)]
pub struct Ingest {
    pub event: Event,
    pub dedupe: Option<DedupeKey>,
    pub tasks: Vec<NewTask>,
}

impl Ingest {
    /// Whether more than one key decides.
    pub(crate) fn has_more_keys(&self) -> bool {
        self.dedupe.as_ref().is_some_and(|dedupe| dedupe.second.is_some() || !dedupe.parts.is_empty())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    Stored,
    /// The key was there: nothing was stored. These are the first event's ids.
    Duplicate {
        event_id: EventId,
        task_ids: Vec<TaskId>,
        /// Of an event that is put together, where itself it is new: its parts that belong to other events.
        parts: Vec<(String, EventId)>,
    },
}

impl Ingested {
    pub(crate) const fn duplicate_of(event_id: EventId) -> Self {
        Self::Duplicate { event_id, task_ids: Vec::new(), parts: Vec::new() }
    }
}

#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub namespace: Option<Namespace>,
    pub kind: Option<SourceKind>,
    /// The whole `source`, or its end after a slash.
    pub source: Option<String>,
    pub event_type: Option<String>,
    /// `accepted`, `malformed`, `rejected`, `unverified`, `ping`.
    pub verdict: Option<String>,
    pub trigger: Option<ByTrigger>,
    /// The address that sent them.
    pub sender: Option<IpAddr>,
    /// Where the secret is kept that they were signed with.
    pub secret: Option<String>,
    /// The event that they repeat.
    pub replay_of: Option<EventId>,
    /// By the time that is in their ids: received then or later, and before.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Events that have to do with a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByTrigger {
    pub name: String,
    /// Only those of which it decided this.
    pub outcome: Option<DecisionOutcome>,
    /// Sources of which also those count that no trigger was asked about, because they were not accepted; without
    /// an `outcome` only.
    pub sources: Vec<String>,
}

/// How far one request goes through the events, whatever a filter lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    pub order: Order,
    /// Only events beyond this one.
    pub from: Option<Uuid>,
    /// Yields at most this many, up to 500.
    pub limit: u32,
    /// Looks at no more than this many.
    pub look_at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    NewestFirst,
    OldestFirst,
}

/// What a walk came by.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// Bodies left out.
    pub events: Vec<Event>,
    /// Where the next walk goes on; `None` at the end.
    pub next: Option<Uuid>,
}

/// A free place for one task of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The task's first lease: fence 1, and the instance that it makes.
    pub lease: Lease,
    pub slot: Slot,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// In the order of the batch.
    pub answers: Vec<Ingested>,
    /// The offers that were taken: these tasks are leased, in no particular order.
    pub leased: Vec<Lease>,
}

#[async_trait]
pub trait EventStore: Send + Sync {
    /// Stores every event of the batch with its dedupe key and its tasks in **one** transaction,
    /// durably, and answers in the order of the batch. An event whose key is known (or came earlier in
    /// the batch) and has not expired when it was received stores nothing and yields the first one's ids; so does
    /// an event of which one of two keys is known, where it has a second (the other key is then the first one's too),
    /// an event that is put together from parts of which one is known (the answer names them, and the others stay free), and
    /// an event whose own id is stored, because the answer to the first call may have been lost. Tasks whose
    /// `command` is an `Err` are stored as failed with reason `render`; all others are claimable from
    /// their `run_at` on, and listeners are told after the commit.
    ///
    /// A task with an offer is stored as if it had been claimed at once (status `locked`, a first instance), unless
    /// the slot's agent session is not the stored one any more: then it waits like any other.
    async fn ingest(&self, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError>;

    /// The event with its body.
    async fn event(&self, id: EventId) -> Result<Event, StoreError>;

    /// The event that has this token, without its body.
    async fn event_of(&self, token: StatusToken) -> Result<Event, StoreError>;

    /// The first of the events that are there, by id, with their bodies: as many as have `bytes` of bodies together,
    /// and at least the first that has one. Those after the last of them have not been looked at. An id that is named
    /// twice counts once.
    async fn events_by_id(&self, ids: &[EventId], bytes: usize) -> Result<Vec<Event>, StoreError>;

    /// Newest first, bodies left out. However many must be looked at for a page: see [`Self::walk_events`].
    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<Event>, StoreError>;

    /// The events of a stretch that the filter lets through. `next` is the last event that was looked at, or that came
    /// with a full `limit`: an answer without events is no end.
    async fn walk_events(&self, filter: &EventFilter, walk: Walk) -> Result<Walked, StoreError>;

    /// Forgets dedupe keys that expired before `now`, at most `limit`: the leader's business. Yields how many went.
    async fn forget_expired_keys(
        &self,
        leadership: Leadership,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError>;
}
