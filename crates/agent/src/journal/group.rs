//! Entries of the journal, and one commit with many of them: a statement for each kind, whatever their number, and one call for all.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hetuflow_core::{
    id::{InstanceId, TaskId},
    protocol::RunResult,
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Arguments, Row, SqliteConnection, sqlite::SqliteArguments};

use super::{Acceptance, JournalError, corrupt};
use crate::process::ProcessId;

#[derive(Debug)]
pub(super) enum Entry {
    Accept { lease: Lease, boot_id: Arc<str>, cgroup: Option<String>, seen_at: Timestamp },
    Refuse { lease: Lease, seen_at: Timestamp },
    Started { instance_id: InstanceId, process: Option<ProcessId>, at: Timestamp },
    Ended(Box<RunResult>),
    Forget(InstanceId),
}

/// Beside fences as they were before: an attempt is there when its fence is about to be raised.
const ACCEPT: &str = "insert or replace into attempt (instance_id, task_id, fence, boot_id, cgroup)
    select said.value ->> 0, said.value ->> 1, said.value ->> 2, said.value ->> 3, said.value ->> 4
    from json_each(?) as said left join fence on fence.task_id = said.value ->> 1
    where fence.fence is null or fence.fence < said.value ->> 2;";

/// A fence counts only when it is higher than all that the task has had here. Yields those that are.
const RAISE: &str = "insert into fence (task_id, fence, seen_at)
    select value ->> 0, value ->> 1, value ->> 2 from json_each(?) where true order by key
    on conflict (task_id) do update set fence = excluded.fence, seen_at = excluded.seen_at
        where excluded.fence > fence.fence
    returning task_id, fence;";

const START: &str =
    "update attempt set pid = said.value ->> 1, start_time = said.value ->> 2, started_at = said.value ->> 3
        from json_each(?) as said where instance_id = said.value ->> 0;";

/// Of an attempt only the first end counts.
const END: &str = "update attempt set result = said.value -> 1
        from json_each(?) as said where instance_id = said.value ->> 0 and result is null;";

const FORGET: &str = "delete from attempt where instance_id in (select value from json_each(?));";

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
    let newer = newer(entries);
    let fenced = || entries.iter().zip(&newer).filter_map(|(entry, newer)| newer.then_some(entry));
    let steps = [
        (ACCEPT, list(fenced().filter_map(Entry::acceptance))?),
        (RAISE, list(fenced().filter_map(Entry::fence).map(|(lease, at)| (lease.task_id, lease.fence, at)))?),
        (START, list(entries.iter().filter_map(Entry::start))?),
        (END, list(entries.iter().filter_map(Entry::end))?),
        (FORGET, list(entries.iter().filter_map(Entry::forgotten))?),
    ];
    failpoint!("journal.before_commit");
    let mut raised = commit(connection, steps).await?;
    failpoint!("journal.after_commit");
    let acceptances = entries.iter().zip(newer).map(|(entry, newer)| match entry.fence() {
        Some((lease, _)) if !newer || !raised.remove(&(lease.task_id, lease.fence)) => Acceptance::Stale,
        Some(_) | None => Acceptance::Accepted,
    });
    Ok(acceptances.collect())
}

/// Which of the entries with a fence have a higher one than those before them, of the same task.
fn newer(entries: &[Entry]) -> Vec<bool> {
    let mut highest = HashMap::new();
    let newer = entries.iter().map(|entry| {
        entry.fence().is_some_and(|(lease, _)| {
            let known = highest.entry(lease.task_id).or_insert(i64::MIN);
            let is_newer = lease.fence > *known;
            *known = lease.fence.max(*known);
            is_newer
        })
    });
    newer.collect()
}

/// All in one: between statements that are sent one by one, this thread and the connection's would wait for each other.
/// Yields the fences that were raised.
async fn commit(
    connection: &mut SqliteConnection,
    steps: [(&'static str, Option<String>); 5],
) -> Result<HashSet<(TaskId, i64)>, JournalError> {
    let (mut text, mut arguments, mut statements) =
        (String::from("begin immediate;"), SqliteArguments::default(), 2);
    for (statement, items) in steps.into_iter().filter_map(|(statement, items)| Some((statement, items?))) {
        text.push_str(statement);
        arguments.add(items).map_err(sqlx::Error::Encode)?;
        statements += 1;
    }
    text.push_str("commit");
    let done = hetuflow_sqlite::run(connection, text, arguments, statements).await?;
    let rows = done.iter().flat_map(|done| &done.rows);
    let raised = rows.map(|row| {
        let task_id: String = row.try_get(0)?;
        Ok((task_id.parse().map_err(|error| corrupt(&task_id, error))?, row.try_get(1)?))
    });
    raised.collect()
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
    pub(super) fn fence(&self) -> Option<(&Lease, Timestamp)> {
        match self {
            Self::Accept { lease, seen_at, .. } | Self::Refuse { lease, seen_at } => Some((lease, *seen_at)),
            Self::Started { .. } | Self::Ended(_) | Self::Forget(_) => None,
        }
    }

    fn acceptance(&self) -> Option<impl Serialize> {
        let Self::Accept { lease, boot_id, cgroup, .. } = self else { return None };
        Some((lease.instance_id, lease.task_id, lease.fence, &**boot_id, cgroup))
    }

    fn start(&self) -> Option<impl Serialize> {
        let Self::Started { instance_id, process, at } = self else { return None };
        let (pid, start_time) = process.map(|process| (process.pid, process.start_time)).unzip();
        Some((instance_id, pid, start_time, at))
    }

    fn end(&self) -> Option<impl Serialize> {
        let Self::Ended(result) = self else { return None };
        Some((result.lease.instance_id, result))
    }

    fn forgotten(&self) -> Option<impl Serialize> {
        let Self::Forget(instance_id) = self else { return None };
        Some(instance_id)
    }
}
