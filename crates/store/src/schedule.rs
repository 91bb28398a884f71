//! Schedules that a clock drives: each fire happens once, whoever is quicker.

use async_trait::async_trait;
use hetuflow_core::id::ScheduleId;
use jiff::Timestamp;

use crate::{Ingest, StoreError};

/// A schedule whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: ScheduleId,
    pub run_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Fire {
    pub id: ScheduleId,
    /// The time that this fire stands for; nothing happens unless it is still the schedule's next.
    pub run_at: Timestamp,
    /// The schedule's next time; `None` ends it.
    pub next: Option<Timestamp>,
    /// The event and its tasks: none where the time is skipped, which the event then says. `None` only moves the
    /// schedule on.
    pub ingest: Option<Ingest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    Stored,
    /// Another server was quicker, or the schedule was edited meanwhile.
    Elsewhere,
}

#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// Enabled schedules whose next time is not after `now`, oldest first.
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError>;

    /// The earliest next time of all schedules.
    async fn next_fire(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Moves each schedule to its next time and stores the event with its tasks, only if `run_at` is still its next
    /// time; all in one transaction. A (schedule, time) pair is fired once for ever. Yields one answer for each, in
    /// order.
    async fn fire(&self, batch: &[Fire]) -> Result<Vec<Fired>, StoreError>;
}
