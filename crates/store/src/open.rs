//! Opens a database by its URL, brings its schema up to date, and refuses one that can lose commits.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Store, StoreError, postgres, sqlite};

#[derive(Clone)]
pub struct Options {
    /// `sqlite:///var/lib/hetuflow/hetuflow.db`, `postgres://user@host/db`.
    pub url: String,
    /// Connections at most (PostgreSQL, and readers of SQLite).
    pub pool_size: u32,
}

/// Opens the database and applies the migrations that it lacks. An SQLite file is made when it is missing, readable
/// by its owner only; a PostgreSQL database must exist.
///
/// Boxed, so that the drivers are compiled with this crate, and not with every binary that they are in.
pub fn open(options: &Options) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
    Box::pin(async {
        match options.scheme() {
            "sqlite" => sqlite::open(options).await,
            "postgres" | "postgresql" => postgres::open(options).await,
            _ => Err(options.unknown()),
        }
    })
}

/// Whether the database could be opened, with its name and version; nothing is made or migrated. `None` for an SQLite file
/// that would be made.
pub fn examine(options: &Options) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
    Box::pin(async {
        match options.scheme() {
            "sqlite" => sqlite::examine(options).await,
            "postgres" | "postgresql" => postgres::examine(options).await.map(Some),
            _ => Err(options.unknown()),
        }
    })
}

impl Options {
    fn scheme(&self) -> &str {
        self.url.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    fn unknown(&self) -> StoreError {
        StoreError::Unfit(format!(
            "{:?} is not a kind of database: use sqlite:///PATH/hetuflow.db or postgres://USER@HOST/DATABASE",
            self.scheme()
        ))
    }
}

impl std::fmt::Debug for Options {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("scheme", &self.scheme())
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}
