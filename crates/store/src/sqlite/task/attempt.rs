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
use uuid::Uuid;

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
    job_id: Uuid,
    /// Of the task's newest lease.
    agent_id: String,
    attempt: Attempt,
}

/// An attempt that ends now, and what becomes of its task.
struct End<'a> {
    finish: &'a Finish,
    held: Held,
    settled: Settled,
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
    for statement in
        ["delete from sched_task_output where instance_id = ?", "delete from sched_attempt where id = ?"]
    {
        sqlx::query(statement).bind(lease.instance_id.uuid()).execute(&mut **tx).await?;
    }
    let settled = settle::given_back(held.attempt.cancel_requested, held.ended_before, now);
    let cancelled = (settled.status == Status::Cancelled).then(settle::cancelled_before_start);
    sqlx::query(
        "update sched_task set status = ?, outcome = coalesce(?, outcome), finished_at = ?, attempt = attempt - 1, \
         instance_id = null, leased_at = null where id = ?",
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
        let mut ends: Vec<End<'_>> = Vec::new();
        for (n, finish) in batch.iter().enumerate() {
            reports.push(match (held.remove(&n), ended.get(&finish.lease)) {
                (None, _) => Report::Fenced,
                (Some(_), Some(status)) => settle::report_after_end(*status, &finish.outcome),
                (Some(held), None) if !held.in_force => {
                    settle::report_after_end(held.status, &finish.outcome)
                }
                (Some(held), None) => {
                    let settled = held.attempt.end(&finish.outcome, finish.finished_at, now, random);
                    ends.push(End { finish, held, settled });
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
    text: "select u.column4 as n, coalesce(a.status, t.status) as status, t.policy, t.attempt, t.cancel_requested, \
           t.job_id, t.agent_id, t.outcome is not null as ended_before, \
           t.instance_id is u.column2 and t.fence = u.column3 as in_force \
           from {rows} u cross join sched_task t \
           left join sched_attempt a on a.id = +u.column2 and +a.task_id = u.column1 and +a.fence = u.column3 \
           where t.id = +u.column1 and (a.id is not null or in_force)",
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
            job_id: row.uuid("job_id")?,
            agent_id: row.text("agent_id")?,
            attempt: Attempt::from_row(row)?,
        };
        Ok((row::number(row, "n")?, held))
    };
    HELD.run(tx, &leases, lease).await?.rows.iter().map(held).collect()
}

pub(in crate::sqlite) const END_ATTEMPTS: Over = Over {
    text: "insert or fail into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, \
           started_at, finished_at, outcome, output_dropped) select * from {rows} where column1 is not null \
           on conflict (id) do update set status = excluded.status, \
           started_at = coalesce(excluded.started_at, a.started_at), finished_at = excluded.finished_at, \
           outcome = excluded.outcome, output_dropped = excluded.output_dropped",
    columns: 12,
};
pub(in crate::sqlite) const SETTLE_TASKS: Over = Over {
    text: "update or fail sched_task as t set status = u.column2, outcome = u.column3, \
           scheduled_at = coalesce(u.column4, t.scheduled_at), finished_at = u.column5, instance_id = null, \
           leased_at = null from {rows} u where t.id = +u.column1",
    columns: 5,
};

async fn settle(tx: &mut Tx, ends: &[End<'_>]) -> Result<(), StoreError> {
    END_ATTEMPTS.run(tx, ends, end_attempt).await?;
    SETTLE_TASKS.run(tx, ends, settle_task).await?;
    Ok(())
}

fn end_attempt(bound: &mut Bound, End { finish, held, .. }: &End<'_>) {
    bound
        .bind(finish.lease.instance_id.uuid())
        .created_at(finish.lease.instance_id.uuid())
        .bind(finish.lease.task_id.uuid())
        .bind(held.job_id)
        .bind(held.agent_id.clone())
        .bind(held.attempt.number)
        .bind(finish.lease.fence)
        .bind(finish.outcome.status().number())
        .bind(finish.started_at.map(Timestamp::as_microsecond))
        .bind(finish.finished_at.as_microsecond())
        .json(&finish.outcome)
        .bind(row::signed(finish.output_dropped));
}

fn settle_task(bound: &mut Bound, End { finish, settled, .. }: &End<'_>) {
    bound
        .bind(finish.lease.task_id.uuid())
        .bind(settled.status.number())
        .json(&finish.outcome)
        .bind(settled.run_at.map(Timestamp::as_microsecond))
        .bind(settled.finished_at.map(Timestamp::as_microsecond));
}
