//! Opens a database by its URL, brings its schema up to date, and refuses one that can lose commits.

use std::sync::Arc;

use crate::{Store, StoreError};

#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:///var/lib/hetuflow/hetuflow.db`, `postgres://user@host/db`.
    pub url: String,
    /// Connections at most (PostgreSQL, and readers of SQLite).
    pub pool_size: u32,
}

pub async fn open(_options: &Options) -> Result<Arc<dyn Store>, StoreError> {
    todo!()
}
