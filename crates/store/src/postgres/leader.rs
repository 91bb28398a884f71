//! The leader on PostgreSQL. The database's clock is `now()`: of the first statement of its transaction, everywhere
//! here.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::id::ServerId;
use tokio::sync::watch;

use super::{Postgres, Tx};
use crate::{LeaderStore, Leadership, StoreError, row};

#[async_trait]
impl LeaderStore for Postgres {
    async fn lead(&self, holder: ServerId, ttl: Duration) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar(
            "insert into sched_leader as l (name, holder, epoch, expires_at)
             values ('main', $1, 1, now() + $2 * interval '1 microsecond')
             on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at,
                epoch = l.epoch + case when l.holder = excluded.holder and l.expires_at > now() then 0 else 1 end
             where l.holder = excluded.holder or l.expires_at <= now()
             returning epoch",
        )
        .bind(holder.uuid())
        .bind(row::micros(ttl))
        .fetch_optional(&self.pool)
        .await?)
    }

    async fn resign(&self, leadership: Leadership) -> Result<(), StoreError> {
        let resigned = sqlx::query(
            "update sched_leader set expires_at = least(expires_at, now())
             where name = 'main' and holder = $1 and epoch = $2",
        )
        .bind(leadership.holder.uuid())
        .bind(leadership.epoch)
        .execute(&self.pool)
        .await?;
        if resigned.rows_affected() > 0 {
            self.changes.tell_of_resignation(&self.pool).await;
        }
        Ok(())
    }

    async fn leader(&self) -> Result<Option<Leadership>, StoreError> {
        let row = sqlx::query("select holder, epoch from sched_leader where expires_at > now()")
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| row::leadership(&row)).transpose()
    }

    fn resignations(&self) -> watch::Receiver<u64> {
        self.changes.resignations()
    }
}

/// The first statement of what only the leader may do. The row stays locked until the transaction ends, so that
/// another server takes over only after it.
pub(super) async fn guard(tx: &mut Tx, leadership: Leadership) -> Result<(), StoreError> {
    let leads: Option<i32> = sqlx::query_scalar(
        "select 1 from sched_leader where holder = $1 and epoch = $2 and expires_at > now() for share",
    )
    .bind(leadership.holder.uuid())
    .bind(leadership.epoch)
    .fetch_optional(&mut **tx)
    .await?;
    leads.map(drop).ok_or(StoreError::NotLeader)
}
