//! The one connection that writes, and its transactions. Not a pool of one: a pool asks a connection that comes back
//! whether it still answers, and every question goes to the connection's thread and back. For the same reason a
//! transaction can begin with its first statements, in one step ([`Idle::begin`]).

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{Connection, SqliteConnection};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use super::batch::{Done, Script};
use crate::StoreError;

#[derive(Debug)]
pub(super) struct Writer {
    open: Arc<Mutex<Open>>,
    /// How long a caller waits for its turn.
    patience: Duration,
}

#[derive(Debug)]
struct Open {
    /// `None` once it is closed.
    connection: Option<SqliteConnection>,
    /// A transaction has begun, or may have.
    begun: bool,
}

/// The turn to write, before anything has begun.
pub(super) struct Idle(Turn);

/// A transaction. Dropped without a commit it rolls back.
pub(super) struct Tx(Turn);

struct Turn {
    open: OwnedMutexGuard<Open>,
    /// For a rollback after the turn.
    writer: Arc<Mutex<Open>>,
}

impl Writer {
    pub(super) fn new(connection: SqliteConnection, patience: Duration) -> Self {
        let open = Open { connection: Some(connection), begun: false };
        Self { open: Arc::new(Mutex::new(open)), patience }
    }

    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.turn().await?.begin(Script::default()).await?.0)
    }

    /// Waits for the turn. What was left of another is rolled back first.
    pub(super) async fn turn(&self) -> Result<Idle, StoreError> {
        let open = timeout(self.patience, Arc::clone(&self.open).lock_owned()).await;
        let mut open = open.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if open.connection.is_none() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        open.roll_back().await;
        Ok(Idle(Turn { open, writer: Arc::clone(&self.open) }))
    }

    pub(super) async fn close(&self) {
        let mut open = self.open.lock().await;
        open.roll_back().await;
        if let Some(connection) = open.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = %error, "the database was not closed in order");
        }
    }
}

impl Open {
    /// An error means that nothing had begun, or that SQLite has rolled back by itself.
    async fn roll_back(&mut self) {
        if self.begun
            && let Some(connection) = &mut self.connection
        {
            let _ = sqlx::raw_sql("rollback").execute(connection).await;
            self.begun = false;
        }
    }
}

impl Idle {
    /// Begins, takes the write lock, and runs the script; yields what each of its statements did.
    pub(super) async fn begin(mut self, script: Script) -> Result<(Tx, Vec<Done>), StoreError> {
        self.0.open.begun = true;
        let mut tx = Tx(self.0);
        let done = script.after_begin().run(&mut tx).await?;
        Ok((tx, done))
    }

    /// The script is a transaction, in one step. After an error nothing of it has happened, and the turn goes on.
    pub(super) async fn run_whole(mut self, script: Script) -> Result<Vec<Done>, (Self, StoreError)> {
        self.0.open.begun = true;
        let mut tx = Tx(self.0);
        match script.whole().run(&mut tx).await {
            Ok(done) => {
                tx.0.open.begun = false;
                Ok(done)
            }
            Err(error) => {
                tx.0.open.roll_back().await;
                Err((Self(tx.0), error))
            }
        }
    }
}

impl Tx {
    /// Runs the script and commits, in one step.
    pub(super) async fn end_with(mut self, script: Script) -> Result<(), StoreError> {
        script.and_commit().run(&mut self).await?;
        self.0.open.begun = false;
        Ok(())
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("commit").execute(&mut *self).await?;
        self.0.open.begun = false;
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.open.begun
            && let Ok(runtime) = Handle::try_current()
        {
            let writer = Arc::clone(&self.writer);
            runtime.spawn(async move { writer.lock().await.roll_back().await });
        }
    }
}

const OPEN: &str = "it is closed by who has the turn";

impl Deref for Tx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.0.open.connection.as_ref().expect(OPEN)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.0.open.connection.as_mut().expect(OPEN)
    }
}
