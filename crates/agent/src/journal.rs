//! The journal: what this agent has promised, durable before it acts on it. One SQLite file, one
//! connection. An assignment is in it before its process starts, an end before it is reported, and
//! both leave it only when the server has acknowledged the result. Step 8 of the walk.
//!
//! It also knows the highest fence of every task that it has seen, which is what makes "an attempt
//! starts at most once" hold against assignments that come twice or late.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hetuflow_core::{
    id::{InstanceId, JournalId},
    protocol::{Assignment, RunResult},
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use jiff::{SignedDuration, Timestamp};
use sqlx::{
    Row,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::process::ProcessId;

/// From where on the race of two WAL resets is fixed.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How long a fence is remembered after its task was last seen; the server retries within hours.
const KEEP_FENCES: SignedDuration = SignedDuration::from_hours(30 * 24);

const SCHEMA: [&str; 3] = [
    "create table if not exists journal (
        one integer primary key check (one = 1), id text not null, epoch integer not null) strict",
    "create table if not exists fence (
        task_id text primary key, fence integer not null, seen_at text not null) strict",
    "create table if not exists attempt (
        instance_id text primary key,
        assignment text not null,
        boot_id text not null,
        cgroup text,
        pid integer,
        start_time integer,
        started_at text,
        result text) strict",
];

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal failed")]
    Database(#[from] sqlx::Error),
    #[error("the journal cannot keep its word: {what} is {found:?}, must be {wanted:?}")]
    Unsafe { what: &'static str, found: String, wanted: &'static str },
    #[error("the journal's row {row} is not readable: {problem}")]
    Corrupt { row: String, problem: String },
}

#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pool: SqlitePool,
    id: JournalId,
    /// A pid means something only within one boot.
    boot_id: Arc<str>,
}

/// What an assignment comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// New and durable: its process may start, once.
    Accepted,
    /// In the journal already; nothing starts.
    Held,
    /// An attempt of this task with this fence or a higher one has been here before.
    Stale,
}

/// One attempt as an earlier life of the agent left it.
#[derive(Debug, Clone)]
pub(crate) struct Journalled {
    pub(crate) lease: Lease,
    pub(crate) boot_id: String,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) process: Option<ProcessId>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) result: Option<RunResult>,
}

impl Journal {
    pub(crate) async fn open(path: &Path, boot_id: &str, now: Timestamp) -> Result<Self, JournalError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        check(&pool).await?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&pool).await?;
        }
        sqlx::query("insert into journal (one, id, epoch) values (1, ?, 0) on conflict do nothing")
            .bind(JournalId::at(now).to_string())
            .execute(&pool)
            .await?;
        if let Ok(before) = now.checked_sub(KEEP_FENCES) {
            sqlx::query("delete from fence where seen_at < ?")
                .bind(before.to_string())
                .execute(&pool)
                .await?;
        }
        let text: String = sqlx::query_scalar("select id from journal").fetch_one(&pool).await?;
        let id = text.parse().map_err(|error| corrupt("journal", error))?;
        Ok(Self { pool, id, boot_id: boot_id.into() })
    }

    pub(crate) fn id(&self) -> JournalId {
        self.id
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Raises the epoch, durably, and yields it: for the next hello.
    pub(crate) async fn next_epoch(&self) -> Result<u64, JournalError> {
        let epoch: i64 = sqlx::query_scalar("update journal set epoch = epoch + 1 returning epoch")
            .fetch_one(&self.pool)
            .await?;
        u64::try_from(epoch).map_err(|error| corrupt("journal", error))
    }

    /// Takes an assignment, once. A repeated one finds what is stored.
    pub(crate) async fn accept(
        &self,
        assignment: &Assignment,
        cgroup: Option<&Path>,
        now: Timestamp,
    ) -> Result<Acceptance, JournalError> {
        let lease = assignment.lease;
        let text = serde_json::to_string(assignment).map_err(|error| corrupt("attempt", error))?;
        let mut transaction = self.pool.begin().await?;
        if !raise_fence(&mut transaction, lease, now).await? {
            drop(transaction);
            return Ok(if self.holds(lease).await? { Acceptance::Held } else { Acceptance::Stale });
        }
        sqlx::query("insert into attempt (instance_id, assignment, boot_id, cgroup) values (?, ?, ?, ?)")
            .bind(lease.instance_id.to_string())
            .bind(text)
            .bind(&*self.boot_id)
            .bind(cgroup.map(|path| path.to_string_lossy().into_owned()))
            .execute(&mut *transaction)
            .await?;
        failpoint!("journal.before_commit");
        transaction.commit().await?;
        failpoint!("journal.after_commit");
        Ok(Acceptance::Accepted)
    }

    /// Remembers that this attempt was given back, so that a copy of its assignment that is still on
    /// its way starts nothing.
    pub(crate) async fn refuse(&self, lease: Lease, now: Timestamp) -> Result<(), JournalError> {
        let mut transaction = self.pool.begin().await?;
        raise_fence(&mut transaction, lease, now).await?;
        Ok(transaction.commit().await?)
    }

    /// The process runs.
    pub(crate) async fn started(
        &self,
        instance_id: InstanceId,
        process: ProcessId,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        let start_time = i64::try_from(process.start_time).map_err(|error| corrupt("attempt", error))?;
        sqlx::query("update attempt set pid = ?, start_time = ?, started_at = ? where instance_id = ?")
            .bind(process.pid)
            .bind(start_time)
            .bind(at.to_string())
            .bind(instance_id.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The attempt ended. Only the first end counts.
    pub(crate) async fn ended(&self, result: &RunResult) -> Result<(), JournalError> {
        let text = serde_json::to_string(result).map_err(|error| corrupt("attempt", error))?;
        sqlx::query("update attempt set result = ? where instance_id = ? and result is null")
            .bind(text)
            .bind(result.lease.instance_id.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The server has acknowledged the end, or it is not this agent's attempt any more.
    pub(crate) async fn forget(&self, instance_id: InstanceId) -> Result<(), JournalError> {
        let id = instance_id.to_string();
        sqlx::query("delete from attempt where instance_id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn attempts(&self) -> Result<Vec<Journalled>, JournalError> {
        let rows = sqlx::query("select * from attempt order by instance_id").fetch_all(&self.pool).await?;
        rows.iter().map(journalled).collect()
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
    }

    async fn holds(&self, lease: Lease) -> Result<bool, JournalError> {
        let row = sqlx::query("select * from attempt where instance_id = ?")
            .bind(lease.instance_id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(journalled).transpose()?.is_some_and(|held| held.lease == lease))
    }
}

/// WAL with anything less than FULL loses commits when the power goes; older libraries may corrupt.
async fn check(pool: &SqlitePool) -> Result<(), JournalError> {
    let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(pool).await?;
    if mode != "wal" {
        return Err(JournalError::Unsafe { what: "journal_mode", found: mode, wanted: "wal" });
    }
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(pool).await?;
    if synchronous != 2 {
        let found = synchronous.to_string();
        return Err(JournalError::Unsafe { what: "synchronous", found, wanted: "2 (full)" });
    }
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    if (part(), part(), part()) < OLDEST_SQLITE {
        return Err(JournalError::Unsafe { what: "SQLite", found: version, wanted: "3.51.3 or newer" });
    }
    Ok(())
}

/// False when this fence or a higher one of the task has been here before.
async fn raise_fence(
    transaction: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    lease: Lease,
    now: Timestamp,
) -> Result<bool, JournalError> {
    let raised = sqlx::query(
        "insert into fence (task_id, fence, seen_at) values (?, ?, ?)
         on conflict (task_id) do update set fence = excluded.fence, seen_at = excluded.seen_at
         where excluded.fence > fence.fence",
    )
    .bind(lease.task_id.to_string())
    .bind(lease.fence)
    .bind(now.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(raised.rows_affected() == 1)
}

fn journalled(row: &SqliteRow) -> Result<Journalled, JournalError> {
    let id: String = row.try_get("instance_id")?;
    let assignment: String = row.try_get("assignment")?;
    let assignment: Assignment = serde_json::from_str(&assignment).map_err(|error| corrupt(&id, error))?;
    let pid: Option<i32> = row.try_get("pid")?;
    let start_time: Option<i64> = row.try_get("start_time")?;
    let started_at: Option<String> = row.try_get("started_at")?;
    let result: Option<String> = row.try_get("result")?;
    Ok(Journalled {
        lease: assignment.lease,
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

fn corrupt(row: &str, problem: impl std::fmt::Display) -> JournalError {
    JournalError::Corrupt { row: row.to_owned(), problem: problem.to_string() }
}
