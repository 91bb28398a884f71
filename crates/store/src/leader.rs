//! The leader: the one server that looks after what belongs to the whole database (attempts of agents that stay
//! away, partitions, retention, expired keys). Taking events in, firing and dispatch never need it.
//!
//! Leadership is a lease on one row. What only the leader may do takes a [`Leadership`] and checks it in its own
//! transaction, by the database's clock, holding the row until the commit: a server that was frozen, or cut off,
//! and does not know that another one took over, changes nothing ([`StoreError::NotLeader`]).

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::id::ServerId;
use tokio::sync::watch;

use crate::StoreError;

/// The right to act for the whole database: who has it, and the number of this term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    pub holder: ServerId,
    pub epoch: i64,
}

#[async_trait]
pub trait LeaderStore: Send + Sync {
    /// Takes the lead for `ttl` from now (the database's now) if nobody has it, or prolongs it. Yields the epoch;
    /// `None`: another server leads. The epoch grows unless an unbroken term of the same holder is prolonged.
    async fn lead(&self, holder: ServerId, ttl: Duration) -> Result<Option<i64>, StoreError>;

    /// Gives the lead up, so that another server may take it at once, and tells the others. Nothing happens when
    /// it is another term by now.
    async fn resign(&self, leadership: Leadership) -> Result<(), StoreError>;

    /// Who leads now, if anybody does.
    async fn leader(&self) -> Result<Option<Leadership>, StoreError>;

    /// Changes when a leader has resigned, here or on another server. Only a hint, as
    /// [`task_changes`](crate::Store::task_changes) is.
    fn resignations(&self) -> watch::Receiver<u64>;
}
