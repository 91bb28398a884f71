//! SQLite files that keep their word: what a commit has acknowledged is there after a power cut. For the server's
//! database and the agent's journal.

mod fitness;
mod log;
mod script;

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

pub use fitness::{Unfit, check};
pub use log::lay_log;
pub use script::{Done, run};

/// Settings under which a commit is on the disk when it returns. SQLite ignores in silence what it cannot do, so
/// [`check`] reads them back.
pub fn options(file: impl AsRef<Path>) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
}
