//! Opens the state file, and finds out whether it can be used: on which file system it is, and whether it is sound. One
//! that is not is put aside, so that nobody has to do anything for files to be watched again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{WatchError, probe};

/// The file, what SQLite keeps beside it, and the index of that.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// A state file that can be used.
pub(super) struct Opened {
    pub(super) pool: SqlitePool,
    /// There was one that could not, with where it is now.
    pub(super) damage: Option<String>,
}

pub(super) async fn open(path: &Path) -> Result<Opened, WatchError> {
    if probe::is_remote(path.parent().unwrap_or(path)) {
        return Err(WatchError::Remote { path: path.to_owned() });
    }
    let error = |source| WatchError::State { path: path.to_owned(), source };
    match sound(path).await {
        Ok(pool) => Ok(Opened { pool, damage: None }),
        Err(source) if is_damage(&source) => {
            let aside =
                put_aside(path).map_err(|error| WatchError::Aside { path: path.to_owned(), error })?;
            let damage = format!(
                "the memory of files was damaged ({source}) and is now `{}`; what came since the watch began is told again, and \
                 what the server knows starts nothing",
                aside.display()
            );
            tracing::error!(problem = damage, "watching begins with an empty memory");
            Ok(Opened { pool: sound(path).await.map_err(error)?, damage: Some(damage) })
        }
        Err(source) => Err(error(source)),
    }
}

async fn sound(path: &Path) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(10));
    // One connection: the engine writes, the agent reads a page now and then.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    sqlx::raw_sql(include_str!("../schema.sql")).execute(&pool).await?;
    let found: String = sqlx::query_scalar("pragma quick_check(1)").fetch_one(&pool).await?;
    if found == "ok" {
        return Ok(pool);
    }
    pool.close().await;
    Err(sqlx::Error::Protocol(found))
}

fn is_damage(error: &sqlx::Error) -> bool {
    // SQLITE_CORRUPT and SQLITE_NOTADB; what is above the first byte says more about them.
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    // A protocol error is what the check found.
    code.is_some_and(|code| [11, 26].contains(&(code & 0xFF))) || matches!(error, sqlx::Error::Protocol(_))
}

/// Under a name that is free. An earlier one that was put aside is kept: the first may be the one that tells why.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let beside = |number: u32, part: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}{part}"));
        PathBuf::from(name)
    };
    let number = (1..u32::MAX).find(|number| !beside(*number, "").exists()).unwrap_or(u32::MAX);
    for part in PARTS {
        let mut from = path.as_os_str().to_owned();
        from.push(part);
        match fs::rename(from, beside(number, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(beside(number, ""))
}
