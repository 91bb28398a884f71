//! PostgreSQL, for many servers and agents. Every statement runs at `read committed` and takes the locks that
//! it needs, in one order: agent, task, instance. What the database rolls back in spite of that (a deadlock) was
//! not committed and is tried again here; a connection that breaks during a commit is not, because nobody
//! knows whether it went through.

mod agent;
mod columns;
mod event;
mod fitness;
mod key;
mod lanes;
mod leader;
mod migrate;
mod notify;
mod open;
mod partition;
#[cfg(test)]
mod plans;
mod retention;
mod schedule;
mod task;
mod trigger;
mod warm;

use async_trait::async_trait;
use sqlx::{PgPool, Transaction};
use tokio::sync::watch;

pub(crate) use open::{examine, open};

use self::{
    notify::TaskChanges,
    warm::{Hot, Warm},
};
use crate::{Store, StoreError, lanes::Lanes};

type Tx = Transaction<'static, sqlx::Postgres>;

/// How often a transaction is tried that the database rolls back.
const TRIES: u32 = 5;

#[derive(Debug)]
struct Postgres {
    pool: PgPool,
    warm: Warm,
    changes: TaskChanges,
    lanes: Lanes,
    version: String,
}

/// Runs one transaction, and runs it again when the database rolled it back for the sake of another.
macro_rules! retrying {
    ($transaction:expr) => {{
        let mut tries = 1;
        loop {
            match $transaction.await {
                Err(error) if tries < super::TRIES && super::rolled_back(&error) => tries += 1,
                done => break done,
            }
        }
    }};
}
use retrying;

/// Deadlock or serialisation failure: the database says that nothing was committed.
fn rolled_back(error: &StoreError) -> bool {
    let StoreError::Unavailable(error) = error else { return false };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

impl Postgres {
    async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_with("begin").await
    }

    /// In a task of its own, which hears the answer even when the caller has gone: sqlx counts a transaction as begun
    /// only then. Otherwise its connection would come back to the pool inside a transaction that nobody ends, and the
    /// next single statement on it would be answered but not committed.
    async fn begin_with(&self, statement: &'static str) -> Result<Tx, StoreError> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        Ok(begun.unwrap_or(Err(sqlx::Error::WorkerCrashed))?)
    }

    /// A connection for a statement that every life takes.
    async fn hot(&self) -> Result<Hot<'_>, StoreError> {
        Ok(self.warm.take(&self.pool).await?)
    }

    /// Tells listeners, after a commit, that tasks may have become claimable or cancelled.
    fn tasks_changed(&self) {
        self.changes.tell();
    }
}

#[async_trait]
impl Store for Postgres {
    async fn probe(&self) -> Result<(), StoreError> {
        let written: i64 =
            sqlx::query_scalar("update sched_meta set probe = probe + 1 where id = 1 returning probe")
                .fetch_one(&self.pool)
                .await?;
        let read: i64 =
            sqlx::query_scalar("select probe from sched_meta where id = 1").fetch_one(&self.pool).await?;
        if read < written {
            return Err(StoreError::CorruptRow(format!("wrote probe {written}, read {read}")));
        }
        Ok(())
    }

    fn task_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn writers(&self) -> usize {
        usize::try_from(self.pool.options().get_max_connections()).unwrap_or(1)
    }

    fn describe(&self) -> String {
        format!("postgres {}", self.version)
    }

    async fn close(&self) {
        self.changes.stop();
        self.warm.close();
        self.pool.close().await;
    }
}
