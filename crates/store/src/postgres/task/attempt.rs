//! What ends attempts when more than a success is to be told: given back, failed, lost. Whatever changes an attempt
//! locks its task first and its instance second. Progress is in `progress.rs`, results are in `finish.rs`.

use hetuflow_core::{
    status::Status,
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Finish, Report, StoreError,
    postgres::{
        Postgres, Tx,
        columns::{Time, at, time},
    },
    row::{self, Columns},
    settle::{self, Attempt, Settled},
};

/// The attempt that a lease names.
enum Held {
    /// It is the task's newest and has not ended.
    InForce(InForce),
    /// How it ended.
    Ended(Status),
}

struct InForce {
    status: Status,
    job_id: Uuid,
    agent_id: String,
    /// An earlier attempt has left its outcome.
    ended_before: bool,
    attempt: Attempt,
}

/// The locks are taken in the order in which the attempts are named.
pub(in crate::postgres) const HELD: &str =
    "select u.n, t.status, t.policy, t.attempt, t.cancel_requested, t.job_id, t.agent_id,
        t.outcome is not null as ended_before
     from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bigint[]) with ordinality
        as u(task_id, task_at, instance_id, fence, n)
     cross join lateral (
        select * from sched_task t where t.id = u.task_id and t.created_at = u.task_at offset 0 for update
     ) t
     where t.instance_id = u.instance_id and t.fence = u.fence";

/// Asked once the locks are held: what another transaction has ended meanwhile is seen by a later statement only.
pub(in crate::postgres) const ENDED: &str = "select u.n, a.status
     from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[]) with ordinality
        as u(task_id, id, created_at, fence, n)
     cross join lateral (
        select status from sched_attempt a where a.id = u.id and a.created_at = u.created_at
            and a.task_id = u.task_id and a.fence = u.fence offset 0
     ) a";

pub(in crate::postgres) const END_ATTEMPTS: &str = "
insert into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at,
    finished_at, outcome, output_dropped)
select id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at, finished_at, outcome::json,
    output_dropped
from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[],
    $8::smallint[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::bigint[])
    as u(id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at, finished_at, outcome,
    output_dropped)
on conflict (id, created_at) do update set status = excluded.status,
    started_at = coalesce(excluded.started_at, a.started_at), finished_at = excluded.finished_at,
    outcome = excluded.outcome, output_dropped = excluded.output_dropped";

pub(in crate::postgres) const SETTLE_TASKS: &str = "update sched_task t set status = u.status, outcome = u.outcome::json,
        scheduled_at = coalesce(u.run_at, t.scheduled_at), finished_at = u.finished_at, instance_id = null,
        leased_at = null
     from unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::text[], $5::timestamptz[], $6::timestamptz[])
        as u(id, created_at, status, outcome, run_at, finished_at)
     where t.id = u.id and t.created_at = u.created_at";

pub(super) async fn give_back(db: &Postgres, lease: Lease, now: Timestamp) -> Result<Report, StoreError> {
    let mut tx = db.begin().await?;
    if !return_attempt(&mut tx, lease, now).await? {
        return Ok(Report::Fenced);
    }
    failpoint!("give_back.before_commit");
    tx.commit().await?;
    failpoint!("give_back.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(Report::Recorded)
}

/// Undoes an attempt that never began; false when it is not in force or has started.
pub(in crate::postgres) async fn return_attempt(
    tx: &mut Tx,
    lease: Lease,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(Held::InForce(held)) = held(tx, &[lease]).await?.remove(0) else { return Ok(false) };
    if held.status == Status::Running {
        return Ok(false);
    }
    sqlx::query(
        "with output as (delete from sched_task_output where instance_id = $1 and created_at = $2)
         delete from sched_attempt where id = $1 and created_at = $2",
    )
    .bind(lease.instance_id.uuid())
    .bind(at(lease.instance_id.uuid()))
    .execute(&mut **tx)
    .await?;
    let settled = settle::given_back(held.attempt.cancel_requested, held.ended_before, now);
    let cancelled = (settled.status == Status::Cancelled).then(settle::cancelled_before_start);
    sqlx::query(
        "update sched_task set status = $1, outcome = coalesce($2::text::json, outcome), finished_at = $3,
            attempt = attempt - 1, instance_id = null, leased_at = null
         where id = $4 and created_at = $5",
    )
    .bind(settled.status.number())
    .bind(cancelled.as_ref().map(row::json).transpose()?)
    .bind(settled.finished_at.map(time))
    .bind(lease.task_id.uuid())
    .bind(at(lease.task_id.uuid()))
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Ends attempts and settles their tasks by their policies: failures, or losses that the server found.
pub(in crate::postgres) async fn end_attempts(
    tx: &mut Tx,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    let leases: Vec<Lease> = batch.iter().map(|finish| finish.lease).collect();
    let held = held(tx, &leases).await?;
    let mut reports = Vec::with_capacity(batch.len());
    let mut ends: Vec<End<'_>> = Vec::new();
    for (finish, held) in batch.iter().zip(held) {
        let earlier = ends.iter().find(|end| end.finish.lease == finish.lease);
        reports.push(match (held, earlier) {
            (None, _) => Report::Fenced,
            (Some(_), Some(end)) => settle::report_after_end(end.finish.outcome.status(), &finish.outcome),
            (Some(Held::Ended(status)), None) => settle::report_after_end(status, &finish.outcome),
            (Some(Held::InForce(held)), None) => {
                let settled = held.attempt.end(&finish.outcome, finish.finished_at, now, random);
                ends.push(End { finish, held, settled });
                Report::Recorded
            }
        });
    }
    if !ends.is_empty() {
        write_attempts(tx, &ends).await?;
        settle_tasks(tx, &ends).await?;
    }
    Ok(reports)
}

/// An attempt that ends now, and what becomes of its task.
struct End<'a> {
    finish: &'a Finish,
    held: InForce,
    settled: Settled,
}

/// A loss is a finish like any other, without facts from the agent.
pub(in crate::postgres) fn lost(lease: Lease, outcome: Outcome, now: Timestamp) -> Finish {
    debug_assert_eq!(outcome.reason, EndReason::Lost);
    Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 }
}

/// Locks the tasks of the leases, in the order of their ids, so that two batches do not wait for each other. `None` is
/// an attempt that the store does not know.
async fn held(tx: &mut Tx, leases: &[Lease]) -> Result<Vec<Option<Held>>, StoreError> {
    let mut order: Vec<usize> = (0..leases.len()).collect();
    order.sort_by_key(|n| leases[*n].task_id);
    let sorted: Vec<Lease> = order.iter().map(|n| leases[*n]).collect();
    let rows = sqlx::query(HELD)
        .bind(tasks(&sorted))
        .bind(tasks(&sorted).into_iter().map(at).collect::<Vec<Time>>())
        .bind(instances(&sorted))
        .bind(fences(&sorted))
        .fetch_all(&mut **tx)
        .await?;
    let mut held: Vec<Option<Held>> = leases.iter().map(|_| None).collect();
    for row in &rows {
        let place: usize = row::number(row, "n")?;
        held[order[place - 1]] = Some(Held::InForce(InForce {
            status: row::status(row, "status")?,
            job_id: row.uuid("job_id")?,
            agent_id: row.text("agent_id")?,
            ended_before: row.flag("ended_before")?,
            attempt: Attempt::from_row(row)?,
        }));
    }
    let rest: Vec<usize> = (0..leases.len()).filter(|n| held[*n].is_none()).collect();
    let others: Vec<Lease> = rest.iter().map(|n| leases[*n]).collect();
    for (n, status) in ended(tx, &others).await? {
        held[rest[n]] = Some(Held::Ended(status));
    }
    Ok(held)
}

/// By their places in the list.
async fn ended(tx: &mut Tx, leases: &[Lease]) -> Result<Vec<(usize, Status)>, StoreError> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(ENDED)
        .bind(tasks(leases))
        .bind(instances(leases))
        .bind(instances(leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(fences(leases))
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| Ok((row::number::<usize>(row, "n")? - 1, row::status(row, "status")?))).collect()
}

async fn write_attempts(tx: &mut Tx, ends: &[End<'_>]) -> Result<(), StoreError> {
    let leases: Vec<Lease> = ends.iter().map(|end| end.finish.lease).collect();
    let finishes = || ends.iter().map(|end| end.finish);
    sqlx::query(END_ATTEMPTS)
        .bind(instances(&leases))
        .bind(instances(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(tasks(&leases))
        .bind(ends.iter().map(|end| end.held.job_id).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.held.agent_id.as_str()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| i64::from(end.held.attempt.number)).collect::<Vec<_>>())
        .bind(fences(&leases))
        .bind(finishes().map(|finish| finish.outcome.status().number()).collect::<Vec<_>>())
        .bind(finishes().map(|finish| finish.started_at.map(time)).collect::<Vec<_>>())
        .bind(finishes().map(|finish| time(finish.finished_at)).collect::<Vec<_>>())
        .bind(finishes().map(|finish| row::json(&finish.outcome)).collect::<Result<Vec<_>, _>>()?)
        .bind(finishes().map(|finish| row::signed(finish.output_dropped)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn settle_tasks(tx: &mut Tx, ends: &[End<'_>]) -> Result<(), StoreError> {
    let leases: Vec<Lease> = ends.iter().map(|end| end.finish.lease).collect();
    sqlx::query(SETTLE_TASKS)
        .bind(tasks(&leases))
        .bind(tasks(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(ends.iter().map(|end| end.settled.status.number()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| row::json(&end.finish.outcome)).collect::<Result<Vec<_>, _>>()?)
        .bind(ends.iter().map(|end| end.settled.run_at.map(time)).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.settled.finished_at.map(time)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) fn tasks(leases: &[Lease]) -> Vec<Uuid> {
    leases.iter().map(|lease| lease.task_id.uuid()).collect()
}

pub(super) fn instances(leases: &[Lease]) -> Vec<Uuid> {
    leases.iter().map(|lease| lease.instance_id.uuid()).collect()
}

pub(super) fn fences(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.fence).collect()
}
