//! Refuses a PostgreSQL that can lose what it has acknowledged, that is too old, or that cannot be written.

use sqlx::{PgPool, Row};

use crate::StoreError;

/// The oldest that the statements are tested on, as `server_version_num`.
const OLDEST: i32 = 150_000;

struct Settings {
    version_number: i32,
    version: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    encoding: String,
    standby: bool,
    read_only: String,
}

/// Yields the version.
pub(super) async fn check(pool: &PgPool) -> Result<String, StoreError> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::int as version_number,
                current_setting('server_version') as version,
                current_setting('fsync') as fsync,
                current_setting('full_page_writes') as full_page_writes,
                current_setting('synchronous_commit') as synchronous_commit,
                current_setting('server_encoding') as encoding,
                pg_is_in_recovery() as standby,
                current_setting('default_transaction_read_only') as read_only",
    )
    .fetch_one(pool)
    .await?;
    let settings = Settings {
        version_number: row.try_get("version_number")?,
        version: row.try_get("version")?,
        fsync: row.try_get("fsync")?,
        full_page_writes: row.try_get("full_page_writes")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        encoding: row.try_get("encoding")?,
        standby: row.try_get("standby")?,
        read_only: row.try_get("read_only")?,
    };
    match unfit(&settings) {
        Some(problem) => Err(StoreError::Unfit(problem)),
        None => Ok(settings.version),
    }
}

/// What is wrong with the database, and what to do about it.
fn unfit(settings: &Settings) -> Option<String> {
    let lossy = |setting: &str, value: &str| {
        format!(
            "PostgreSQL runs with {setting} = {value}: it can lose commits that it has acknowledged. \
             Set {setting} = on (postgresql.conf, and the role's or the database's own settings) and reload it"
        )
    };
    if settings.version_number < OLDEST {
        let (major, oldest) = (settings.version_number / 10_000, OLDEST / 10_000);
        return Some(format!("PostgreSQL {major} is too old: hetuflow needs {oldest} or newer"));
    }
    if settings.fsync != "on" {
        return Some(lossy("fsync", &settings.fsync));
    }
    if settings.full_page_writes != "on" {
        return Some(lossy("full_page_writes", &settings.full_page_writes));
    }
    // local, remote_write, remote_apply and on all wait for this server's own disk.
    if settings.synchronous_commit == "off" {
        return Some(lossy("synchronous_commit", "off"));
    }
    if settings.encoding != "UTF8" {
        let encoding = &settings.encoding;
        return Some(format!(
            "the database has encoding {encoding}: make one with `create database .. encoding 'UTF8'`"
        ));
    }
    if settings.standby {
        return Some(
            "this PostgreSQL is a standby and takes no writes: name the primary in the URL".to_owned(),
        );
    }
    (settings.read_only == "on").then(|| {
        "transactions are read-only by default (default_transaction_read_only = on): turn it off for this role".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_can_lose_commits_is_unfit() {
        let fit = || Settings {
            version_number: 150_018,
            version: "15.18".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            encoding: "UTF8".to_owned(),
            standby: false,
            read_only: "off".to_owned(),
        };
        let check = |change: fn(&mut Settings), expected: Option<&str>| {
            let mut settings = fit();
            change(&mut settings);
            let problem = unfit(&settings);
            assert_eq!(problem.is_some(), expected.is_some(), "{problem:?}");
            if let (Some(problem), Some(expected)) = (problem, expected) {
                assert!(problem.contains(expected), "{problem}");
            }
        };
        check(|_| {}, None);
        check(|s| s.synchronous_commit = "remote_apply".to_owned(), None);
        check(|s| s.synchronous_commit = "local".to_owned(), None);
        check(|s| s.synchronous_commit = "off".to_owned(), Some("synchronous_commit = on"));
        check(|s| s.fsync = "off".to_owned(), Some("fsync = on"));
        check(|s| s.full_page_writes = "off".to_owned(), Some("full_page_writes = on"));
        check(|s| s.version_number = 140_011, Some("PostgreSQL 14 is too old"));
        check(|s| s.encoding = "SQL_ASCII".to_owned(), Some("UTF8"));
        check(|s| s.standby = true, Some("primary"));
        check(|s| s.read_only = "on".to_owned(), Some("read-only"));
    }
}
