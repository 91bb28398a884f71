//! How a store operation fails.

use sqlx::{error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("not found")]
    NotFound,
    /// The state is not one from which this is possible; the text says which it is.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Only the leader may do this, and it is another server, or nobody, by now. Nothing was changed.
    #[error("this server does not lead")]
    NotLeader,
    /// A hello whose journal does not continue the one that is known: either it is another journal, or a newer hello
    /// of the same agent has overtaken it. Nothing was changed.
    #[error("the journal is not the one that is known, or a newer hello was quicker")]
    InDoubt { session_epoch: i64 },
    /// A hello by somebody who has not shown the agent's key. Nothing was changed.
    #[error("this agent has another key, or its key was taken back")]
    NotAdmitted,
    /// A row that hetuflow did not write this way.
    #[error("corrupt row: {0}")]
    CorruptRow(String),
    /// The database is away, full or busy: the same call may succeed later.
    #[error("database unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database is set up so that it can lose what it has acknowledged, or cannot be used; the text
    /// says which setting and what to do.
    #[error("{0}")]
    Unfit(String),
    #[error("database error")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        if matches!(error, E::RowNotFound) {
            return Self::NotFound;
        }
        if matches!(error, E::ColumnDecode { .. } | E::Decode(_) | E::ColumnNotFound(_)) {
            return Self::CorruptRow(error.to_string());
        }
        let away = matches!(
            error,
            E::Io(_)
                | E::Tls(_)
                | E::Protocol(_)
                | E::PoolTimedOut
                | E::PoolClosed
                | E::WorkerCrashed
                | E::BeginFailed
        );
        if away || error.as_database_error().is_some_and(passes) {
            return Self::Unavailable(error);
        }
        Self::Database(error)
    }
}

/// Whether waiting, or making room, can cure it.
fn passes(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<SqliteError>().is_some() {
        // The primary code is the low byte: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN.
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14));
    }
    // Connection, rolled back (deadlock, serialisation), resources, operator, system; lock not available.
    error.try_downcast_ref::<PgDatabaseError>().is_some()
        && (["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "55P03")
}
