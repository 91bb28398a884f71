//! One decision for many tasks, stretch by stretch. What a stretch holds is found without locks; the change itself
//! looks again, so that a task which moved on meanwhile is left alone and the walk still knows where it is.

use hetuflow_core::{id::TaskId, status::Status};
use jiff::Timestamp;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::list;
use crate::{
    CancelledAll, Retried, StoreError, Stretch, TaskFilter,
    postgres::{
        Postgres, Tx,
        columns::{Time, at, time},
    },
    row::{self, Columns},
    settle,
};

pub(super) async fn retry(
    db: &Postgres,
    filter: &TaskFilter,
    stretch: Stretch,
    now: Timestamp,
) -> Result<Retried, StoreError> {
    let mut tx = db.begin().await?;
    let found = find(&mut tx, " and t.status in (90, 91, 92, 99, 100)", filter, stretch).await?;
    let (runnable, skipped): (Vec<&Found>, Vec<&Found>) = found.iter().partition(|found| found.runnable);
    let ids = ids(runnable.into_iter());
    let retried = sqlx::query(
        "update sched_task set status = $1, scheduled_at = $2, queued_for = null, outcome = null, finished_at = null,
            cancel_requested = false, telling = abs(telling)
         where id = any($3) and created_at = any($4) and status = any($5)",
    )
    .bind(Status::Pending.number())
    .bind(time(now))
    .bind(&ids)
    .bind(times(&ids))
    .bind(still(filter, Status::is_final))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Retried {
        retried: retried.rows_affected(),
        skipped: skipped.len() as u64,
        next: stretch.next(found.len(), found.last().map(|found| found.id)),
    })
}

pub(super) async fn cancel(
    db: &Postgres,
    filter: &TaskFilter,
    stretch: Stretch,
    now: Timestamp,
) -> Result<CancelledAll, StoreError> {
    let mut tx = db.begin().await?;
    let found = find(&mut tx, " and t.status in (1, 2, 5, 8, 10)", filter, stretch).await?;
    let ids = ids(found.iter());
    // Held, so that none goes from one kind to the other between the two statements.
    sqlx::query(
        "select 1 from sched_task where id = any($1) and created_at = any($2) order by id for update",
    )
    .bind(&ids)
    .bind(times(&ids))
    .execute(&mut *tx)
    .await?;
    let cancelled = sqlx::query(
        "update sched_task set status = $1, outcome = $2::text::json, finished_at = $3
         where id = any($4) and created_at = any($5) and status = any($6)",
    )
    .bind(Status::Cancelled.number())
    .bind(row::json(&settle::cancelled_before_start())?)
    .bind(time(now))
    .bind(&ids)
    .bind(times(&ids))
    .bind(still(filter, Status::is_waiting))
    .execute(&mut *tx)
    .await?;
    let asked = sqlx::query(
        "update sched_task set cancel_requested = true
         where id = any($1) and created_at = any($2) and status = any($3) and not cancel_requested",
    )
    .bind(&ids)
    .bind(times(&ids))
    .bind(still(filter, Status::is_leased))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(CancelledAll {
        cancelled: cancelled.rows_affected(),
        asked: asked.rows_affected(),
        next: stretch.next(found.len(), found.last().map(|found| found.id)),
    })
}

struct Found {
    id: TaskId,
    runnable: bool,
}

async fn find(
    tx: &mut Tx,
    allowed: &str,
    filter: &TaskFilter,
    stretch: Stretch,
) -> Result<Vec<Found>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Postgres>::new(
        "select t.id, t.command is not null and t.policy ->> 'daemon' is null as runnable from sched_task t where true",
    );
    query.push(allowed);
    list::push_filter(&mut query, filter);
    if let Some(after) = stretch.after {
        query.push(" and t.id > ").push_bind(after.uuid());
        query.push(" and t.created_at >= ").push_bind(at(after.uuid()));
    }
    query.push(" order by t.id limit ").push_bind(i64::from(stretch.rows()));
    query.build().fetch_all(&mut **tx).await?.iter().map(found).collect()
}

fn found(row: &impl Columns) -> Result<Found, StoreError> {
    Ok(Found { id: TaskId::from_uuid(row.uuid("id")?), runnable: row.flag("runnable")? })
}

/// The statuses in which a task of the filter may still be changed.
fn still(filter: &TaskFilter, kind: fn(Status) -> bool) -> Vec<i16> {
    let wanted =
        |status: &Status| kind(*status) && (filter.status.is_empty() || filter.status.contains(status));
    Status::ALL.into_iter().filter(wanted).map(Status::number).collect()
}

fn ids<'a>(found: impl Iterator<Item = &'a Found>) -> Vec<Uuid> {
    found.map(|found| found.id.uuid()).collect()
}

fn times(ids: &[Uuid]) -> Vec<Time> {
    ids.iter().copied().map(at).collect()
}
