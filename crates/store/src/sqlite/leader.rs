//! The leader on SQLite, where there is one server as a rule and the same rules hold. The database's clock is
//! SQLite's own `now`.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::id::ServerId;
use tokio::sync::watch;

use super::{Sqlite, Tx};
use crate::{LeaderStore, Leadership, StoreError, row};

#[async_trait]
impl LeaderStore for Sqlite {
    async fn lead(&self, holder: ServerId, ttl: Duration) -> Result<Option<i64>, StoreError> {
        let mut tx = self.begin().await?;
        let epoch = sqlx::query_scalar(
            "insert into sched_leader as l (name, holder, epoch, expires_at) \
             values ('main', ?1, 1, cast(unixepoch('now', 'subsec') * 1000000 as integer) + ?2) \
             on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at, \
             epoch = l.epoch + (l.holder <> excluded.holder \
             or l.expires_at <= cast(unixepoch('now', 'subsec') * 1000000 as integer)) \
             where l.holder = excluded.holder \
             or l.expires_at <= cast(unixepoch('now', 'subsec') * 1000000 as integer) \
             returning epoch",
        )
        .bind(holder.uuid())
        .bind(row::micros(ttl))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(epoch)
    }

    async fn resign(&self, leadership: Leadership) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "update sched_leader \
             set expires_at = min(expires_at, cast(unixepoch('now', 'subsec') * 1000000 as integer)) \
             where name = 'main' and holder = ? and epoch = ?",
        )
        .bind(leadership.holder.uuid())
        .bind(leadership.epoch)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.resignations.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    async fn leader(&self) -> Result<Option<Leadership>, StoreError> {
        let row = sqlx::query(
            "select holder, epoch from sched_leader \
             where expires_at > cast(unixepoch('now', 'subsec') * 1000000 as integer)",
        )
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| row::leadership(&row)).transpose()
    }

    fn resignations(&self) -> watch::Receiver<u64> {
        self.resignations.subscribe()
    }
}

/// The first statement of what only the leader may do. The writer is alone, so nobody takes over before the
/// transaction ends.
pub(super) async fn guard(tx: &mut Tx, leadership: Leadership) -> Result<(), StoreError> {
    let leads: Option<i64> = sqlx::query_scalar(
        "select 1 from sched_leader where holder = ? and epoch = ? \
         and expires_at > cast(unixepoch('now', 'subsec') * 1000000 as integer)",
    )
    .bind(leadership.holder.uuid())
    .bind(leadership.epoch)
    .fetch_optional(&mut **tx)
    .await?;
    leads.map(drop).ok_or(StoreError::NotLeader)
}
