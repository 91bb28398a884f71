//! The one door to the store for events: group commit without a timer. What arrives while a commit is
//! in flight shares the next one, so an idle server answers after one commit and a busy one
//! commits many events at once. Step 5 of the walk.

use hetuflow_store::{Ingest, Ingested};

/// A handle to the ingest loop.
#[derive(Debug, Clone)]
pub struct Ingester {}

#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// More waits for a commit than is allowed; nothing was stored. Try again.
    #[error("too much waits for the database")]
    Overloaded,
    /// Nothing was stored, as far as anyone knows: a later attempt with the same key is safe.
    #[error("the database did not commit: {0}")]
    Store(String),
}

impl Ingester {
    /// Resolves after the event is durably stored, or was found to be a duplicate.
    pub async fn submit(&self, _ingest: Ingest) -> Result<Ingested, IngestError> {
        std::future::pending().await
    }
}
