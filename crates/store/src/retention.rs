//! How the database stays small: partitions made ahead, and what is old dropped in small steps. All of it is the
//! leader's business; when and how far is the server's (`server/src/housekeeping`).
//!
//! Nothing that still runs is touched: not a task that has not ended, nor its event, its attempts, their output.
//! Dedupe keys live by their own expiry, so that a late duplicate of a dropped event still starts nothing.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{Leadership, StoreError};

/// What is dropped together. A row's age is that of its id; a piece of output is as old as its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    Events,
    /// Tasks and their attempts.
    Tasks,
    Output,
    /// Times that schedules have fired for, of which none can come again.
    Fires,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub rows: u64,
    /// Partitions that went as a whole (PostgreSQL), with all their rows, which are not counted.
    pub partitions: u64,
    /// Partitions that are old enough but hold something that still runs.
    pub held: u64,
    /// The same step may find more.
    pub more: bool,
}

/// What the tables take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// With indexes, without what is free to be used again.
    pub bytes: u64,
    /// When the oldest event, task or piece of output was made.
    pub oldest: Option<Timestamp>,
}

#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Makes the partitions of the days to come (PostgreSQL). Yields how many are still missing, because the
    /// tables were busy or the default partition holds too much of them; a later call tries again.
    async fn prepare_partitions(&self, leadership: Leadership) -> Result<u64, StoreError>;

    /// One step in dropping what was made before `before` and has ended, the oldest first: one whole partition,
    /// or at most `limit` rows.
    async fn drop_before(
        &self,
        leadership: Leadership,
        stock: Stock,
        before: Timestamp,
        limit: u32,
    ) -> Result<Dropped, StoreError>;

    async fn size(&self) -> Result<Size, StoreError>;

    /// Gives up to `pages` free pages back to the file system (SQLite), as long as more is free than new rows
    /// will soon need. Yields whether more would go.
    async fn shrink(&self, leadership: Leadership, pages: u32) -> Result<bool, StoreError>;
}
