//! How a store operation fails.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("not found")]
    NotFound,
    /// The state is not one from which this is possible; the text says which it is.
    #[error("conflict: {0}")]
    Conflict(String),
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
