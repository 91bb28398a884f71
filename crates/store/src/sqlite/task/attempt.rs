//! What happens to an attempt after the claim, reported by whoever shows its lease.

use hetuflow_core::{
    status::Status,
    task::{EndReason, Lease},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use crate::{
    Finish, Progress, Report, StoreError,
    row::{self, Columns},
    settle::{self, Attempt, Settled},
    sqlite::{Sqlite, Tx},
};

/// The attempt that a lease names.
struct Held {
    status: Status,
    /// It is the task's newest and has not ended.
    in_force: bool,
    /// An earlier attempt has left its outcome.
    ended_before: bool,
    attempt: Attempt,
}

pub(super) async fn progress(db: &Sqlite, batch: &[Progress]) -> Result<Vec<Report>, StoreError> {
    let mut tx = db.begin().await?;
    let mut reports = Vec::with_capacity(batch.len());
    for Progress { lease, started_at } in batch {
        let held = held(&mut tx, *lease).await?.filter(|held| held.in_force);
        let next = if started_at.is_some() { Status::Running } else { Status::Dispatched };
        if held.as_ref().is_some_and(|held| held.status.number() < next.number()) {
            set_status(&mut tx, *lease, next, *started_at).await?;
        }
        reports.push(if held.is_some() { Report::Recorded } else { Report::Fenced });
    }
    failpoint!("progress.before_commit");
    tx.commit().await?;
    failpoint!("progress.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(reports)
}

pub(super) async fn give_back(db: &Sqlite, lease: Lease, now: Timestamp) -> Result<Report, StoreError> {
    let mut tx = db.begin().await?;
    if !return_attempt(&mut tx, lease, now).await? {
        return Ok(Report::Fenced);
    }
    failpoint!("give_back.before_commit");
    tx.commit().await?;
    failpoint!("give_back.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    db.tasks_changed();
    Ok(Report::Recorded)
}

pub(super) async fn finish(
    db: &Sqlite,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    failpoint!("finish.before");
    let mut tx = db.begin().await?;
    let mut reports = Vec::with_capacity(batch.len());
    for finish in batch {
        reports.push(end_attempt(&mut tx, finish, now, random).await?);
    }
    let awaited: bool = sqlx::query_scalar("select exists (select 1 from sched_turn where queued)")
        .fetch_one(&mut *tx)
        .await?;
    failpoint!("finish.before_commit");
    tx.commit().await?;
    failpoint!("finish.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    if awaited || batch.iter().any(|finish| finish.outcome.status() != Status::Succeeded) {
        // A retry may follow, or a run of a schedule that waited for one of these ends.
        db.tasks_changed();
    }
    Ok(reports)
}

/// Undoes an attempt that never began; false when it is not in force or has started.
pub(in crate::sqlite) async fn return_attempt(
    tx: &mut Tx,
    lease: Lease,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(held) = held(tx, lease).await?.filter(|held| held.in_force && held.status != Status::Running)
    else {
        return Ok(false);
    };
    for statement in [
        "delete from sched_task_output where instance_id = ?",
        "delete from sched_task_instance where id = ?",
    ] {
        sqlx::query(statement).bind(lease.instance_id.uuid()).execute(&mut **tx).await?;
    }
    let settled = settle::given_back(held.attempt.cancel_requested, held.ended_before, now);
    let cancelled = (settled.status == Status::Cancelled).then(settle::cancelled_before_start);
    sqlx::query(
        "update sched_task set status = ?, outcome = coalesce(?, outcome), finished_at = ?, attempt = attempt - 1, \
         agent_id = null, instance_id = null where id = ?",
    )
    .bind(settled.status.number())
    .bind(cancelled.as_ref().map(row::json).transpose()?)
    .bind(settled.finished_at.map(Timestamp::as_microsecond))
    .bind(lease.task_id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Ends an attempt and settles its task: a result, or a loss that the server found.
pub(in crate::sqlite) async fn end_attempt(
    tx: &mut Tx,
    finish: &Finish,
    now: Timestamp,
    random: f64,
) -> Result<Report, StoreError> {
    let Some(held) = held(tx, finish.lease).await? else { return Ok(Report::Fenced) };
    if !held.in_force {
        return Ok(settle::report_after_end(held.status, &finish.outcome));
    }
    let settled = held.attempt.end(&finish.outcome, finish.finished_at, now, random);
    end_instance(tx, finish).await?;
    settle_task(tx, finish, &settled).await?;
    Ok(Report::Recorded)
}

/// A loss is a finish like any other, without facts from the agent.
pub(in crate::sqlite) fn lost(lease: Lease, outcome: hetuflow_core::task::Outcome, now: Timestamp) -> Finish {
    debug_assert_eq!(outcome.reason, EndReason::Lost);
    Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 }
}

async fn held(tx: &mut Tx, lease: Lease) -> Result<Option<Held>, StoreError> {
    let row = sqlx::query(
        "select i.status, t.policy, t.attempt, t.cancel_requested, t.outcome is not null as ended_before, \
         t.instance_id is i.id and t.fence = i.fence as in_force \
         from sched_task_instance i join sched_task t on t.id = i.task_id \
         where i.id = ? and i.task_id = ? and i.fence = ?",
    )
    .bind(lease.instance_id.uuid())
    .bind(lease.task_id.uuid())
    .bind(lease.fence)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Held {
        status: row::status(&row, "status")?,
        in_force: row.flag("in_force")?,
        ended_before: row.flag("ended_before")?,
        attempt: Attempt::from_row(&row)?,
    }))
}

async fn set_status(
    tx: &mut Tx,
    lease: Lease,
    status: Status,
    started_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_task_instance set status = ?, started_at = coalesce(?, started_at) where id = ?",
    )
    .bind(status.number())
    .bind(started_at.map(Timestamp::as_microsecond))
    .bind(lease.instance_id.uuid())
    .execute(&mut **tx)
    .await?;
    sqlx::query("update sched_task set status = ? where id = ?")
        .bind(status.number())
        .bind(lease.task_id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn end_instance(tx: &mut Tx, finish: &Finish) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_task_instance set status = ?, outcome = ?, started_at = coalesce(?, started_at), \
         finished_at = ?, output_dropped = ? where id = ?",
    )
    .bind(finish.outcome.status().number())
    .bind(row::json(&finish.outcome)?)
    .bind(finish.started_at.map(Timestamp::as_microsecond))
    .bind(finish.finished_at.as_microsecond())
    .bind(row::signed(finish.output_dropped))
    .bind(finish.lease.instance_id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn settle_task(tx: &mut Tx, finish: &Finish, settled: &Settled) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_task set status = ?, outcome = ?, scheduled_at = coalesce(?, scheduled_at), finished_at = ?, \
         agent_id = null, instance_id = null where id = ?",
    )
    .bind(settled.status.number())
    .bind(row::json(&finish.outcome)?)
    .bind(settled.run_at.map(Timestamp::as_microsecond))
    .bind(settled.finished_at.map(Timestamp::as_microsecond))
    .bind(finish.lease.task_id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
