//! One decision for many tasks, stretch by stretch.

use hetuflow_core::{id::TaskId, status::Status};
use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{Tx, list};
use crate::{
    CancelledAll, Retried, StoreError, Stretch, TaskFilter,
    row::{self, Columns},
};

pub(super) async fn retry(
    tx: &mut Tx,
    filter: &TaskFilter,
    stretch: Stretch,
    now: Timestamp,
) -> Result<Retried, StoreError> {
    let found = find(tx, " and t.status in (90, 91, 92, 99, 100)", filter, stretch).await?;
    let mut retried =
        Retried { next: stretch.next(found.len(), found.last().map(|found| found.id)), ..Retried::default() };
    for found in &found {
        if !found.runnable {
            retried.skipped += 1;
            continue;
        }
        super::revive(tx, found.id, now).await?;
        retried.retried += 1;
    }
    Ok(retried)
}

pub(super) async fn cancel(
    tx: &mut Tx,
    filter: &TaskFilter,
    stretch: Stretch,
    now: Timestamp,
) -> Result<CancelledAll, StoreError> {
    let found = find(tx, " and t.status in (1, 2, 5, 8, 10)", filter, stretch).await?;
    let mut cancelled = CancelledAll {
        next: stretch.next(found.len(), found.last().map(|found| found.id)),
        ..CancelledAll::default()
    };
    for found in &found {
        if found.status.is_waiting() {
            super::cancel_waiting(tx, found.id, now).await?;
            cancelled.cancelled += 1;
        } else if !found.cancel_requested {
            super::ask_to_end(tx, found.id).await?;
            cancelled.asked += 1;
        }
    }
    Ok(cancelled)
}

struct Found {
    id: TaskId,
    status: Status,
    runnable: bool,
    cancel_requested: bool,
}

async fn find(
    tx: &mut Tx,
    allowed: &str,
    filter: &TaskFilter,
    stretch: Stretch,
) -> Result<Vec<Found>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Sqlite>::new(
        "select t.id, t.status, t.command is not null and t.policy ->> 'daemon' is null as runnable, t.cancel_requested from sched_task t where true",
    );
    query.push(allowed);
    list::push_filter(&mut query, filter);
    if let Some(after) = stretch.after {
        query.push(" and t.id > ").push_bind(after.uuid());
    }
    query.push(" order by t.id limit ").push_bind(stretch.rows());
    query.build().fetch_all(&mut **tx).await?.iter().map(found).collect()
}

fn found(row: &impl Columns) -> Result<Found, StoreError> {
    Ok(Found {
        id: TaskId::from_uuid(row.uuid("id")?),
        status: row::status(row, "status")?,
        runnable: row.flag("runnable")?,
        cancel_requested: row.flag("cancel_requested")?,
    })
}
