//! Opens the file with the settings under which a commit survives a power cut.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteError, SqlitePoolOptions},
};
use tokio::sync::watch;

use super::{Sqlite, fitness, migrate, writer::Writer};
use crate::{Options, Store, StoreError, lanes::Lanes};

/// When the log has so many pages they go to the file, and it begins anew. 16 MiB: rare enough to be cheap, and the log
/// stays small.
const LOG_PAGES: usize = 4000;
/// Of one page, with what the log says of it.
const LOG_PAGE: usize = 4096 + 24;

/// How long a statement waits for another process, and a caller for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn open(options: &Options) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(open_file(options).await?))
}

/// Nothing is made, and nothing migrated.
pub(crate) async fn examine(options: &Options) -> Result<Option<String>, StoreError> {
    let file = file_options(&options.url)?;
    fitness::refuse_network(file.get_filename())?;
    if !file.get_filename().exists() {
        return Ok(None);
    }
    let pool = connect(file.clone(), 1).await.map_err(|error| explain(error, &file))?;
    let version = fitness::check(&pool).await?;
    pool.close().await;
    Ok(Some(format!("SQLite {version}, {}", file.get_filename().display())))
}

pub(super) async fn open_file(options: &Options) -> Result<Sqlite, StoreError> {
    let file = file_options(&options.url)?;
    make_file(file.get_filename())?;
    fitness::refuse_network(file.get_filename())?;
    let first = connect(file.clone(), 1).await.map_err(|error| explain(error, &file))?;
    let version = fitness::check(&first).await?;
    migrate::migrate(&first).await.map_err(|error| explain(error, &file))?;
    // The last to close takes the log away.
    first.close().await;
    let path = file.get_filename().to_owned();
    let laid = tokio::task::spawn_blocking(move || hetuflow_sqlite::lay_log(&path, LOG_PAGES * LOG_PAGE));
    laid.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
    let writer = Writer::new(connect(file.clone(), 1).await?.acquire().await?.detach(), PATIENCE);
    let readers = connect(file.pragma("query_only", "on"), options.pool_size.max(1)).await?;
    let (changes, resignations) = (watch::Sender::new(0), watch::Sender::new(0));
    Ok(Sqlite { writer, lanes: Lanes::default(), readers, changes, resignations, version })
}

/// Payloads are nobody else's business: a new directory and a new file are their owner's alone. SQLite gives its log
/// files the permissions of the file itself.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let unfit =
        |error: io::Error| StoreError::Unfit(format!("cannot make the database {}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unfit)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unfit(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn file_options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    let url = url.strip_suffix("?mode=rwc").unwrap_or(url);
    let unfit = |problem: &str| StoreError::Unfit(format!("{problem}; write sqlite:///PATH/hetuflow.db"));
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(unfit("a database in memory loses everything when the server stops"));
    }
    if url.contains('?') {
        return Err(unfit(
            "an SQLite URL takes no parameters here: hetuflow sets what keeps commits safe itself",
        ));
    }
    let file = SqliteConnectOptions::from_str(url).map_err(|error| unfit(&error.to_string()))?;
    if file.get_filename().as_os_str().is_empty() {
        return Err(unfit("the SQLite URL names no file"));
    }
    Ok(hetuflow_sqlite::options(file.get_filename())
        // Only in effect when it is set before the first table is made: what is dropped can leave the file.
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .foreign_keys(true)
        // Each statement over rows is there once for each size of its table.
        .statement_cache_capacity(256)
        .busy_timeout(PATIENCE)
        .pragma("wal_autocheckpoint", LOG_PAGES.to_string())
        // Likewise 16 MiB: the ends of the indexes that grow stay in memory.
        .pragma("cache_size", "-16384")
        // What a statement would undo if it failed half-way is not written to a file of its own.
        .pragma("temp_store", "memory"))
}

/// Connections are opened once and kept: none goes idle or grows old. One that is given back has been asked whether it
/// works; it is in this process, so it is not asked again when it is taken.
async fn connect(file: SqliteConnectOptions, size: u32) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(size)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(file)
        .await?;
    Ok(pool)
}

/// Says what to do about a file that cannot be used at all.
fn explain(error: StoreError, file: &SqliteConnectOptions) -> StoreError {
    let (StoreError::Unavailable(sqlx::Error::Database(inner))
    | StoreError::Database(sqlx::Error::Database(inner))) = &error
    else {
        return error;
    };
    let Some(sqlite) = inner.try_downcast_ref::<SqliteError>() else { return error };
    let code =
        sqlx::error::DatabaseError::code(sqlite).and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
    let advice = match code & 0xff {
        8 => "it can only be read: make the file and its directory writable for this user",
        14 => "it cannot be opened: its directory must exist and be writable for this user",
        26 => "it is not an SQLite database: name another file, or move this one away",
        _ => return error,
    };
    StoreError::Unfit(format!("the database {}: {advice}", file.get_filename().display()))
}
