//! Entries of the journal, and one commit with many of them: a statement for each kind, whatever their number.

use std::{collections::HashSet, sync::Arc};

use hetuflow_core::{
    id::{InstanceId, TaskId},
    protocol::RunResult,
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};

use super::{Acceptance, JournalError, corrupt};
use crate::process::ProcessId;

#[derive(Debug)]
pub(super) enum Entry {
    Accept { lease: Lease, boot_id: Arc<str>, cgroup: Option<String>, seen_at: Timestamp },
    Refuse { lease: Lease, seen_at: Timestamp },
    Started { instance_id: InstanceId, process: ProcessId, at: Timestamp },
    Ended(Box<RunResult>),
    Forget(InstanceId),
}

/// A fence counts only when it is higher than all that the task has had here. Yields those that are.
const RAISE: &str = "begin immediate;
    insert into fence (task_id, fence, seen_at)
    select value ->> 0, value ->> 1, value ->> 2 from json_each(?) where true order by key
    on conflict (task_id) do update set fence = excluded.fence, seen_at = excluded.seen_at
        where excluded.fence > fence.fence
    returning task_id, fence";

const ACCEPT: &str = "insert or replace into attempt (instance_id, task_id, fence, boot_id, cgroup)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each(?)";

/// Of an attempt only the first end counts.
const REST: &str =
    "update attempt set pid = said.value ->> 1, start_time = said.value ->> 2, started_at = said.value ->> 3
        from json_each(?) as said where instance_id = said.value ->> 0;
    update attempt set result = said.value -> 1
        from json_each(?) as said where instance_id = said.value ->> 0 and result is null;
    delete from attempt where instance_id in (select value from json_each(?))";

/// Writes them all or none, in the order of their kinds: an entry follows another of its attempt only when that one
/// was answered, or in the order start, end, forgotten. Yields what became of each.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<Vec<Acceptance>, JournalError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let written = try_write(connection, entries).await;
    if written.is_err() {
        // Fails where nothing was begun.
        let _ = sqlx::query("rollback").execute(connection).await;
    }
    written
}

async fn try_write(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<Vec<Acceptance>, JournalError> {
    let mut raised = raise(connection, entries).await?;
    let acceptances: Vec<Acceptance> = entries
        .iter()
        .map(|entry| match entry.fence() {
            // Of two entries with the same fence one has raised it: the first.
            Some((lease, _)) if !raised.remove(&(lease.task_id, lease.fence)) => Acceptance::Stale,
            Some(_) | None => Acceptance::Accepted,
        })
        .collect();
    let accepted = entries.iter().zip(&acceptances).filter_map(|(entry, acceptance)| {
        let Entry::Accept { lease, boot_id, cgroup, .. } = entry else { return None };
        (*acceptance == Acceptance::Accepted).then_some((
            lease.instance_id,
            lease.task_id,
            lease.fence,
            &**boot_id,
            cgroup,
        ))
    });
    if let Some(accepted) = list(accepted)? {
        sqlx::query(ACCEPT).bind(accepted).execute(&mut *connection).await?;
    }
    rest(connection, entries).await?;
    failpoint!("journal.before_commit");
    sqlx::query("commit").execute(connection).await?;
    failpoint!("journal.after_commit");
    Ok(acceptances)
}

/// Begins, and yields the fences that were raised.
async fn raise(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<HashSet<(TaskId, i64)>, JournalError> {
    let fences = entries.iter().filter_map(Entry::fence);
    let Some(fences) = list(fences.map(|(lease, at)| (lease.task_id, lease.fence, at)))? else {
        sqlx::query("begin immediate").execute(connection).await?;
        return Ok(HashSet::new());
    };
    let rows = sqlx::query(RAISE).bind(fences).fetch_all(connection).await?;
    let raised = rows.iter().map(|row| {
        let task_id: String = row.try_get(0)?;
        Ok((task_id.parse().map_err(|error| corrupt(&task_id, error))?, row.try_get(1)?))
    });
    raised.collect()
}

async fn rest(connection: &mut SqliteConnection, entries: &[Entry]) -> Result<(), JournalError> {
    let started = list(entries.iter().filter_map(|entry| {
        let Entry::Started { instance_id, process, at } = entry else { return None };
        Some((instance_id, process.pid, process.start_time, at))
    }))?;
    let ended = list(entries.iter().filter_map(|entry| {
        let Entry::Ended(result) = entry else { return None };
        Some((result.lease.instance_id, result))
    }))?;
    let forgotten = list(entries.iter().filter_map(|entry| {
        let Entry::Forget(instance_id) = entry else { return None };
        Some(instance_id)
    }))?;
    if started.is_some() || ended.is_some() || forgotten.is_some() {
        let none = || "[]".to_owned();
        sqlx::query(REST)
            .bind(started.unwrap_or_else(none))
            .bind(ended.unwrap_or_else(none))
            .bind(forgotten.unwrap_or_else(none))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// As JSON; `None` when there are none.
fn list<T: Serialize>(items: impl Iterator<Item = T>) -> Result<Option<String>, JournalError> {
    let items: Vec<T> = items.collect();
    if items.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&items).map(Some).map_err(|error| corrupt("attempt", error))
}

impl Entry {
    /// The lease whose fence this entry raises, and when.
    fn fence(&self) -> Option<(&Lease, Timestamp)> {
        match self {
            Self::Accept { lease, seen_at, .. } | Self::Refuse { lease, seen_at } => Some((lease, *seen_at)),
            Self::Started { .. } | Self::Ended(_) | Self::Forget(_) => None,
        }
    }
}
