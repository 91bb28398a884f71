//! How the database stays small: partitions made ahead, and what is old dropped in small steps. All of it is the
//! leader's business; when and how far is the server's (`server/src/housekeeping`).
//!
//! Nothing that still runs is touched: not a task that has not ended, nor its event, its attempts, their output.
//! Dedupe keys live by their own expiry, so that a late duplicate of a dropped event still starts nothing.

use async_trait::async_trait;
use hetuflow_core::id::Namespace;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Leadership, StoreError};

/// What is dropped together. A row's age is that of its id; a piece of output is as old as its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Whose rows go where namespaces keep theirs for different times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whose {
    These(Vec<Namespace>),
    AllBut(Vec<Namespace>),
}

/// A stretch of a stock, the oldest first: at most `limit` rows from the place on that were made before `before`. Output
/// is looked at attempt by attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub from: Uuid,
    pub before: Timestamp,
    pub limit: u32,
}

/// What one look at a piece did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    pub rows: u64,
    /// Where the next piece begins.
    pub next: Uuid,
    /// There may be more before `before`.
    pub more: bool,
}

/// What a piece weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    pub weights: Vec<Weight>,
    pub next: Uuid,
    pub more: bool,
}

/// Bytes of the rows that a namespace made within one hour, as they are stored, without what the tables need
/// beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    pub namespace: Namespace,
    /// Its beginning.
    pub hour: Timestamp,
    pub bytes: u64,
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

    /// Drops of one piece what belongs to some namespaces and has ended. Bounded by the rows that it looks at, so a
    /// caller that keeps the place looks at each row once, however few it drops. A task goes with what is left of its
    /// output; of [`Stock::Fires`] nothing is dropped.
    async fn trim(
        &self,
        leadership: Leadership,
        stock: Stock,
        whose: &Whose,
        piece: Piece,
    ) -> Result<Trimmed, StoreError>;

    /// What the rows of one piece weigh, by namespace. [`Stock::Fires`] weigh nothing.
    async fn weigh(&self, stock: Stock, piece: Piece) -> Result<Weighed, StoreError>;

    async fn size(&self) -> Result<Size, StoreError>;

    /// Gives up to `pages` free pages back to the file system (SQLite), as long as more is free than new rows
    /// will soon need. Yields whether more would go.
    async fn shrink(&self, leadership: Leadership, pages: u32) -> Result<bool, StoreError>;
}

impl Whose {
    /// The names, and whether a row of one of them goes.
    pub(crate) fn names(&self) -> (Vec<String>, bool) {
        let (Self::These(names) | Self::AllBut(names)) = self;
        (names.iter().map(ToString::to_string).collect(), matches!(self, Self::These(_)))
    }
}
