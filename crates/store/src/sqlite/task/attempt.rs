//! What ends attempts when more than a success is to be told: given back, failed, lost. Progress is in `progress.rs`,
//! results are in `finish.rs`.

use std::collections::HashMap;

use hetuflow_core::{
    status::Status,
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::{
    Finish, Report, StoreError,
    row::{self, Columns},
    settle::{self, Attempt, Settled},
    sqlite::{
        Sqlite, Tx,
        batch::{Bound, MOST, Over},
    },
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

/// Undoes an attempt that never began; false when it is not in force or has started.
pub(in crate::sqlite) async fn return_attempt(
    tx: &mut Tx,
    lease: Lease,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let held = held(tx, &[lease]).await?.remove(&0);
    let Some(held) = held.filter(|held| held.in_force && held.status != Status::Running) else {
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

/// Ends attempts and settles their tasks by their policies: failures, or losses that the server found.
pub(in crate::sqlite) async fn end_attempts(
    tx: &mut Tx,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    let mut reports = Vec::with_capacity(batch.len());
    let mut ended: HashMap<Lease, Status> = HashMap::new();
    for batch in batch.chunks(MOST) {
        let leases: Vec<Lease> = batch.iter().map(|finish| finish.lease).collect();
        let mut held = held(tx, &leases).await?;
        let mut ends: Vec<(&Finish, Settled)> = Vec::new();
        for (n, finish) in batch.iter().enumerate() {
            reports.push(match (held.remove(&n), ended.get(&finish.lease)) {
                (None, _) => Report::Fenced,
                (Some(_), Some(status)) => settle::report_after_end(*status, &finish.outcome),
                (Some(held), None) if !held.in_force => {
                    settle::report_after_end(held.status, &finish.outcome)
                }
                (Some(held), None) => {
                    ends.push((finish, held.attempt.end(&finish.outcome, finish.finished_at, now, random)));
                    ended.insert(finish.lease, finish.outcome.status());
                    Report::Recorded
                }
            });
        }
        settle(tx, &ends).await?;
    }
    Ok(reports)
}

/// A loss is a finish like any other, without facts from the agent.
pub(in crate::sqlite) fn lost(lease: Lease, outcome: Outcome, now: Timestamp) -> Finish {
    debug_assert_eq!(outcome.reason, EndReason::Lost);
    Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 }
}

pub(in crate::sqlite) const HELD: Over = Over {
    text: "select u.column4 as n, i.status, t.policy, t.attempt, t.cancel_requested, \
           t.outcome is not null as ended_before, t.instance_id is i.id and t.fence = i.fence as in_force \
           from {rows} u cross join sched_task_instance i cross join sched_task t \
           where i.id = +u.column2 and i.task_id = u.column1 and i.fence = +u.column3 and t.id = i.task_id",
    columns: 4,
};

/// By their places in the list.
async fn held(tx: &mut Tx, leases: &[Lease]) -> Result<HashMap<usize, Held>, StoreError> {
    let leases: Vec<(i64, &Lease)> = (0..).zip(leases).collect();
    let lease = |bound: &mut Bound, (n, lease): &(i64, &Lease)| {
        bound.bind(lease.task_id.uuid()).bind(lease.instance_id.uuid()).bind(lease.fence).bind(*n);
    };
    let held = |row: &SqliteRow| {
        let held = Held {
            status: row::status(row, "status")?,
            in_force: row.flag("in_force")?,
            ended_before: row.flag("ended_before")?,
            attempt: Attempt::from_row(row)?,
        };
        Ok((row::number(row, "n")?, held))
    };
    HELD.run(tx, &leases, lease).await?.rows.iter().map(held).collect()
}

pub(in crate::sqlite) const END_INSTANCES: Over = Over {
    text: "update sched_task_instance as i set status = u.column2, outcome = u.column3, \
           started_at = coalesce(u.column4, i.started_at), finished_at = u.column5, output_dropped = u.column6 \
           from {rows} u where i.id = +u.column1",
    columns: 6,
};
pub(in crate::sqlite) const SETTLE_TASKS: Over = Over {
    text: "update sched_task as t set status = u.column2, outcome = u.column3, \
           scheduled_at = coalesce(u.column4, t.scheduled_at), finished_at = u.column5, agent_id = null, \
           instance_id = null from {rows} u where t.id = +u.column1",
    columns: 5,
};

async fn settle(tx: &mut Tx, ends: &[(&Finish, Settled)]) -> Result<(), StoreError> {
    END_INSTANCES.run(tx, ends, |bound, (finish, _)| end_instance(bound, finish)).await?;
    SETTLE_TASKS.run(tx, ends, |bound, (finish, settled)| settle_task(bound, finish, settled)).await?;
    Ok(())
}

fn end_instance(bound: &mut Bound, finish: &Finish) {
    bound
        .bind(finish.lease.instance_id.uuid())
        .bind(finish.outcome.status().number())
        .json(&finish.outcome)
        .bind(finish.started_at.map(Timestamp::as_microsecond))
        .bind(finish.finished_at.as_microsecond())
        .bind(row::signed(finish.output_dropped));
}

fn settle_task(bound: &mut Bound, finish: &Finish, settled: &Settled) {
    bound
        .bind(finish.lease.task_id.uuid())
        .bind(settled.status.number())
        .json(&finish.outcome)
        .bind(settled.run_at.map(Timestamp::as_microsecond))
        .bind(settled.finished_at.map(Timestamp::as_microsecond));
}
