//! Everything that must survive: events, tasks, attempts, agents, triggers, schedules.
//!
//! The contract is prose and signatures (one file per noun here), said twice in SQL with the same file and
//! function names: `sqlite/` for one machine, `postgres/` for many. One conformance suite
//! (`tests/conformance/`) holds both to every promise. What the dialects share has no SQL: `row` (columns to
//! words), `settle` (what follows an attempt) and `migration`. One method is one transaction; no transaction
//! appears in a signature. Leases are judged by the database's clock; any other time is an argument.
//!
//! Callers hold an `Arc<dyn Store>` from [`open`] and know no SQL.

mod agent;
mod body;
mod daemon;
mod error;
mod event;
mod key;
mod lanes;
mod leader;
mod migration;
mod open;
mod postgres;
mod retention;
mod row;
mod schedule;
mod settle;
mod sqlite;
mod task;
mod trigger;
mod turn;

pub use agent::{AgentStore, Arrival, Session};
pub use daemon::{DaemonNow, DaemonPlace, DaemonStart, DaemonState, Tended, Tending};
pub use error::StoreError;
pub use event::{
    ByTrigger, Committed, EventFilter, EventStore, Ingest, Ingested, Offer, Order, Walk, Walked,
};
pub use key::{Joined, KeyStore, NewToken, NotJoined};
pub use leader::{LeaderStore, Leadership};
pub use open::{Options, examine, open};
pub use retention::{Dropped, Piece, RetentionStore, Size, Stock, Trimmed, Weighed, Weight, Whose};
pub use schedule::{
    Ahead, Due, Fire, Fired, Passed, PlannedSchedule, Queue, ScheduleFilter, ScheduleStore, Turns,
};
pub use task::{
    Backlog, Cancelled, CancelledAll, Claimed, Ended, Finish, InstanceFilter, LaneId, LowWater, Progress,
    Report, Retried, Slot, Stretch, TaskFilter, TaskStore, WaitingLane,
};
pub use trigger::{
    NewSchedule, NewTrigger, Revision, StoredSchedule, StoredTrigger, TriggerChange, TriggerStore,
};

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

/// What a server needs of its database.
#[async_trait]
pub trait Store:
    EventStore + TaskStore + AgentStore + KeyStore + TriggerStore + ScheduleStore + LeaderStore + RetentionStore
{
    /// Commits something and reads it back: the store can keep its word now.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Changes whenever tasks may have become claimable or cancelled, here or on another server
    /// (PostgreSQL: `NOTIFY task_change`). Only a hint: a lost one costs latency, so every listener also
    /// polls, and registers before it looks.
    fn task_changes(&self) -> watch::Receiver<u64>;

    /// How many transactions it can work on at the same time.
    fn writers(&self) -> usize;

    /// `sqlite` or `postgres`, with the version, for health and `doctor`.
    fn describe(&self) -> String;

    /// Lets running statements finish and closes the connections.
    async fn close(&self);
}

/// A page of a list that is ordered from the newest to the oldest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only entries older than this id.
    pub before: Option<Uuid>,
    /// At most this many, up to 500.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { before: None, limit: 50 }
    }
}
