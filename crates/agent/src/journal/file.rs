//! The journal's file: what is in it, what is asked of the database that keeps it, and how it is read at the start.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{id::JournalId, task::Lease};
use jiff::{SignedDuration, Timestamp};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteLockingMode, SqliteRow},
};

use super::{JournalError, Journalled, corrupt};
use crate::process::ProcessId;

/// The log is as long as this when SQLite begins it anew: a thousand pages, and what it says of them.
const LOG: usize = 1000 * (4096 + 24);

/// How long a fence is remembered after its task was last seen; the server retries within hours.
const KEEP_FENCES: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Fences that are looked at together.
const SWEPT: u32 = 256;

const SCHEMA: [&str; 3] = [
    "create table if not exists journal (
        one integer primary key check (one = 1), id text not null, epoch integer not null) strict",
    "create table if not exists fence (
        task_id text primary key, fence integer not null, seen_at text not null) strict, without rowid",
    "create table if not exists attempt (
        instance_id text primary key,
        task_id text not null,
        fence integer not null,
        boot_id text not null,
        cgroup text,
        pid integer,
        start_time integer,
        started_at text,
        result text) strict, without rowid",
];

pub(super) async fn open(path: &Path, now: Timestamp) -> Result<SqliteConnection, JournalError> {
    let options = hetuflow_sqlite::options(path)
        // Nobody else has business with it (the data directory is locked), so nobody is asked at every step.
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(Duration::from_secs(5));
    let mut connection = options.connect().await?;
    hetuflow_sqlite::check(&mut connection).await??;
    for statement in SCHEMA {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    sqlx::query("insert into journal (one, id, epoch) values (1, ?, 0) on conflict do nothing")
        .bind(JournalId::at(now).to_string())
        .execute(&mut connection)
        .await?;
    if let Some(before) = outdated(now) {
        sqlx::query("delete from fence where seen_at < ?").bind(before).execute(&mut connection).await?;
    }
    // The last to close takes the log away.
    connection.close().await?;
    let file = path.to_owned();
    let laid = tokio::task::spawn_blocking(move || hetuflow_sqlite::lay_log(&file, LOG));
    laid.await.map_err(|_| JournalError::Closed)?;
    Ok(options.connect().await?)
}

/// When fences were last seen that need not be remembered any more.
fn outdated(now: Timestamp) -> Option<String> {
    now.checked_sub(KEEP_FENCES).ok().map(|before| before.to_string())
}

/// Forgets outdated fences among the next few after `last`, and moves that on; from the last one back to the first.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    now: Timestamp,
    last: &mut String,
) -> sqlx::Result<()> {
    let Some(before) = outdated(now) else { return Ok(()) };
    // One row: each would come from the connection's thread by itself.
    let sql = "select count(*), max(task_id), coalesce(min(seen_at) < ?, false)
        from (select task_id, seen_at from fence where task_id > ? order by task_id limit ?)";
    let (count, end, outdated): (u32, Option<String>, bool) =
        sqlx::query_as(sql).bind(&before).bind(&*last).bind(SWEPT).fetch_one(&mut *connection).await?;
    if outdated {
        // One that still runs keeps it.
        let sql = "delete from fence where task_id > ? and task_id <= ? and seen_at < ?
            and task_id not in (select task_id from attempt)";
        sqlx::query(sql).bind(&*last).bind(&end).bind(before).execute(connection).await?;
    }
    *last = end.filter(|_| count == SWEPT).unwrap_or_default();
    Ok(())
}

pub(super) async fn id(connection: &mut SqliteConnection) -> Result<JournalId, JournalError> {
    let text: String = sqlx::query_scalar("select id from journal").fetch_one(connection).await?;
    text.parse().map_err(|error| corrupt("journal", error))
}

pub(super) async fn attempts(connection: &mut SqliteConnection) -> Result<Vec<Journalled>, JournalError> {
    let rows = sqlx::query("select * from attempt order by instance_id").fetch_all(connection).await?;
    rows.iter().map(journalled).collect()
}

fn journalled(row: &SqliteRow) -> Result<Journalled, JournalError> {
    let id: String = row.try_get("instance_id")?;
    let task_id: String = row.try_get("task_id")?;
    let pid: Option<i32> = row.try_get("pid")?;
    let start_time: Option<i64> = row.try_get("start_time")?;
    let started_at: Option<String> = row.try_get("started_at")?;
    let result: Option<String> = row.try_get("result")?;
    Ok(Journalled {
        lease: Lease {
            task_id: task_id.parse().map_err(|error| corrupt(&id, error))?,
            instance_id: id.parse().map_err(|error| corrupt(&id, error))?,
            fence: row.try_get("fence")?,
        },
        boot_id: row.try_get("boot_id")?,
        cgroup: row.try_get::<Option<String>, _>("cgroup")?.map(PathBuf::from),
        process: pid
            .zip(start_time.and_then(|ticks| u64::try_from(ticks).ok()))
            .map(|(pid, start_time)| ProcessId { pid, start_time }),
        started_at: started_at
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: jiff::Error| corrupt(&id, error))?,
        result: result
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| corrupt(&id, error))?,
    })
}
