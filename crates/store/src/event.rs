//! Events: accepted once, kept with their bytes.

use async_trait::async_trait;
use hetuflow_core::{
    event::{DedupeKey, Event, SourceKind},
    id::{EventId, Namespace, TaskId},
    task::NewTask,
};
use jiff::Timestamp;

use crate::{Leadership, Page, StoreError};

/// One event with all that follows from it.
#[derive(Debug, Clone)]
pub struct Ingest {
    pub event: Event,
    pub dedupe: Option<DedupeKey>,
    pub tasks: Vec<NewTask>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    Stored,
    /// The key was there: nothing was stored. These are the first event's ids.
    Duplicate {
        event_id: EventId,
        task_ids: Vec<TaskId>,
    },
}

#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub namespace: Option<Namespace>,
    pub kind: Option<SourceKind>,
    /// The whole `source`, or its end after a slash.
    pub source: Option<String>,
    pub event_type: Option<String>,
    /// `accepted`, `malformed`, `rejected`.
    pub verdict: Option<String>,
}

#[async_trait]
pub trait EventStore: Send + Sync {
    /// Stores every event of the batch with its dedupe key and its tasks in **one** transaction,
    /// durably, and answers in the order of the batch. An event whose key is known (or came earlier in
    /// the batch) and has not expired when it was received stores nothing and yields the first one's ids; so does
    /// an event whose own id is stored, because the answer to the first call may have been lost. Tasks whose
    /// `command` is an `Err` are stored as failed with reason `render`; all others are claimable from
    /// their `run_at` on, and listeners are told after the commit.
    async fn ingest(&self, batch: Vec<Ingest>) -> Result<Vec<Ingested>, StoreError>;

    /// The event with its body.
    async fn event(&self, id: EventId) -> Result<Event, StoreError>;

    /// Newest first, bodies left out.
    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<Event>, StoreError>;

    /// Forgets dedupe keys that expired before `now`, at most `limit`: the leader's business. Yields how many went.
    async fn forget_expired_keys(
        &self,
        leadership: Leadership,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError>;
}
