//! Refuses an SQLite that can lose or corrupt what it has committed.

use sqlx::SqliteConnection;

/// Older ones can corrupt a database when several connections write and checkpoint (the WAL-reset race).
const OLDEST: [u32; 3] = [3, 51, 3];

#[derive(Debug, Clone, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the file stays in journal mode {0:?}, wanted \"wal\": put it on a local disk that supports shared memory files"
    )]
    NoLog(String),
    #[error(
        "SQLite ignores its setting (synchronous is {0}, wanted 2): build hetuflow with its bundled SQLite"
    )]
    NotSynchronous(i64),
    #[error(
        "SQLite {0} can corrupt a database in WAL mode, wanted 3.51.3 or later: build hetuflow with its bundled SQLite"
    )]
    Old(String),
}

/// Yields the version of one that is fit; an error outside says that it could not be asked.
pub async fn check(connection: &mut SqliteConnection) -> sqlx::Result<Result<String, Unfit>> {
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *connection).await?;
    if let Err(unfit) = check_version(&version) {
        return Ok(Err(unfit));
    }
    let journal: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut *connection).await?;
    if journal != "wal" {
        return Ok(Err(Unfit::NoLog(journal)));
    }
    Ok(match sqlx::query_scalar("pragma synchronous").fetch_one(connection).await? {
        2 => Ok(version),
        other => Err(Unfit::NotSynchronous(other)),
    })
}

fn check_version(version: &str) -> Result<(), Unfit> {
    let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if parts.as_slice() >= OLDEST.as_slice() { Ok(()) } else { Err(Unfit::Old(version.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |version: &str, fit: bool| assert_eq!(check_version(version).is_ok(), fit, "{version}");
        check("3.51.3", true);
        check("3.52.0", true);
        check("4.0.0", true);
        check("3.51.2", false);
        check("3.46.0", false);
        check("", false);
    }
}
