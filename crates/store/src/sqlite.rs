//! One file for one machine. One connection writes, in transactions that take the write lock at once
//! (`begin immediate`), so that nothing ever waits inside a transaction for a lock; the others
//! only read. A dropped call rolls back: its transaction does so when it goes.

mod agent;
mod batch;
mod columns;
mod event;
mod fitness;
mod key;
mod leader;
mod migrate;
mod open;
#[cfg(test)]
mod plans;
mod retention;
mod schedule;
mod task;
mod trigger;
mod writer;

use async_trait::async_trait;
use sqlx::SqlitePool;
use tokio::sync::watch;

pub(crate) use open::{examine, open};

use self::writer::{Tx, Writer};
use crate::{Store, StoreError, lanes::Lanes};

#[derive(Debug)]
struct Sqlite {
    writer: Writer,
    lanes: Lanes,
    readers: SqlitePool,
    changes: watch::Sender<u64>,
    resignations: watch::Sender<u64>,
    version: String,
}

impl Sqlite {
    async fn begin(&self) -> Result<Tx, StoreError> {
        self.writer.begin().await
    }

    /// Tells listeners, after a commit, that tasks may have become claimable or cancelled.
    fn tasks_changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn probe(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let written: i64 =
            sqlx::query_scalar("update sched_meta set probe = probe + 1 where id = 1 returning probe")
                .fetch_one(&mut *tx)
                .await?;
        tx.commit().await?;
        let read: i64 =
            sqlx::query_scalar("select probe from sched_meta where id = 1").fetch_one(&self.readers).await?;
        if read < written {
            return Err(StoreError::CorruptRow(format!("wrote probe {written}, read {read}")));
        }
        Ok(())
    }

    fn task_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn writers(&self) -> usize {
        1
    }

    fn describe(&self) -> String {
        format!("sqlite {}", self.version)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
