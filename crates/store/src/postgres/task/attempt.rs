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
struct Held {
    status: Status,
    /// It is the task's newest and has not ended.
    in_force: bool,
    /// An earlier attempt has left its outcome.
    ended_before: bool,
    attempt: Attempt,
}

/// The locks are taken in the order in which the attempts are named.
pub(in crate::postgres) const HELD: &str =
    "select u.n, i.status, t.policy, t.attempt, t.cancel_requested, t.outcome is not null as ended_before,
        coalesce(t.instance_id = i.id and t.fence = i.fence, false) as in_force
     from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::bigint[]) with ordinality
        as u(task_id, task_at, instance_id, instance_at, fence, n)
     cross join lateral (
        select * from sched_task t where t.id = u.task_id and t.created_at = u.task_at offset 0 for update
     ) t
     cross join lateral (
        select * from sched_task_instance i where i.id = u.instance_id and i.created_at = u.instance_at
            and i.task_id = t.id and i.fence = u.fence offset 0 for update
     ) i";

pub(in crate::postgres) const END_INSTANCES: &str = "update sched_task_instance i set status = u.status, outcome = u.outcome::json,
        started_at = coalesce(u.started_at, i.started_at), finished_at = u.finished_at,
        output_dropped = u.output_dropped
     from unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::text[], $5::timestamptz[], $6::timestamptz[],
        $7::bigint[]) as u(id, created_at, status, outcome, started_at, finished_at, output_dropped)
     where i.id = u.id and i.created_at = u.created_at";

pub(in crate::postgres) const SETTLE_TASKS: &str = "update sched_task t set status = u.status, outcome = u.outcome::json,
        scheduled_at = coalesce(u.run_at, t.scheduled_at), finished_at = u.finished_at, agent_id = null,
        instance_id = null
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
    let held = held(tx, &[lease]).await?.remove(0);
    let Some(held) = held.filter(|held| held.in_force && held.status != Status::Running) else {
        return Ok(false);
    };
    sqlx::query(
        "with output as (delete from sched_task_output where instance_id = $1 and created_at = $2)
         delete from sched_task_instance where id = $1 and created_at = $2",
    )
    .bind(lease.instance_id.uuid())
    .bind(at(lease.instance_id.uuid()))
    .execute(&mut **tx)
    .await?;
    let settled = settle::given_back(held.attempt.cancel_requested, held.ended_before, now);
    let cancelled = (settled.status == Status::Cancelled).then(settle::cancelled_before_start);
    sqlx::query(
        "update sched_task set status = $1, outcome = coalesce($2::text::json, outcome), finished_at = $3,
            attempt = attempt - 1, agent_id = null, instance_id = null
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
    let mut ends: Vec<(&Finish, Settled)> = Vec::new();
    for (finish, held) in batch.iter().zip(held) {
        let earlier = ends.iter().find(|(ended, _)| ended.lease == finish.lease);
        reports.push(match (held, earlier) {
            (None, _) => Report::Fenced,
            (Some(_), Some((ended, _))) => settle::report_after_end(ended.outcome.status(), &finish.outcome),
            (Some(held), None) if !held.in_force => settle::report_after_end(held.status, &finish.outcome),
            (Some(held), None) => {
                ends.push((finish, held.attempt.end(&finish.outcome, finish.finished_at, now, random)));
                Report::Recorded
            }
        });
    }
    if !ends.is_empty() {
        end_instances(tx, &ends).await?;
        settle_tasks(tx, &ends).await?;
    }
    Ok(reports)
}

/// A loss is a finish like any other, without facts from the agent.
pub(in crate::postgres) fn lost(lease: Lease, outcome: Outcome, now: Timestamp) -> Finish {
    debug_assert_eq!(outcome.reason, EndReason::Lost);
    Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 }
}

/// Locks what the leases name, and reads it as it is once the locks are held. The locks are taken in the order of
/// the tasks' ids, so that two batches do not wait for each other.
async fn held(tx: &mut Tx, leases: &[Lease]) -> Result<Vec<Option<Held>>, StoreError> {
    let mut order: Vec<usize> = (0..leases.len()).collect();
    order.sort_by_key(|n| leases[*n].task_id);
    let sorted: Vec<Lease> = order.iter().map(|n| leases[*n]).collect();
    let rows = sqlx::query(HELD)
        .bind(tasks(&sorted))
        .bind(tasks(&sorted).into_iter().map(at).collect::<Vec<Time>>())
        .bind(instances(&sorted))
        .bind(instances(&sorted).into_iter().map(at).collect::<Vec<Time>>())
        .bind(sorted.iter().map(|lease| lease.fence).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let mut held: Vec<Option<Held>> = leases.iter().map(|_| None).collect();
    for row in &rows {
        let place: usize = row::number(row, "n")?;
        held[order[place - 1]] = Some(Held {
            status: row::status(row, "status")?,
            in_force: row.flag("in_force")?,
            ended_before: row.flag("ended_before")?,
            attempt: Attempt::from_row(row)?,
        });
    }
    Ok(held)
}

async fn end_instances(tx: &mut Tx, ends: &[(&Finish, Settled)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ends.iter().map(|(finish, _)| finish.lease.instance_id.uuid()).collect();
    sqlx::query(END_INSTANCES)
        .bind(&ids)
        .bind(ids.iter().map(|id| at(*id)).collect::<Vec<_>>())
        .bind(ends.iter().map(|(finish, _)| finish.outcome.status().number()).collect::<Vec<_>>())
        .bind(ends.iter().map(|(finish, _)| row::json(&finish.outcome)).collect::<Result<Vec<_>, _>>()?)
        .bind(ends.iter().map(|(finish, _)| finish.started_at.map(time)).collect::<Vec<_>>())
        .bind(ends.iter().map(|(finish, _)| time(finish.finished_at)).collect::<Vec<_>>())
        .bind(ends.iter().map(|(finish, _)| row::signed(finish.output_dropped)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn settle_tasks(tx: &mut Tx, ends: &[(&Finish, Settled)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ends.iter().map(|(finish, _)| finish.lease.task_id.uuid()).collect();
    sqlx::query(SETTLE_TASKS)
        .bind(&ids)
        .bind(ids.iter().map(|id| at(*id)).collect::<Vec<_>>())
        .bind(ends.iter().map(|(_, settled)| settled.status.number()).collect::<Vec<_>>())
        .bind(ends.iter().map(|(finish, _)| row::json(&finish.outcome)).collect::<Result<Vec<_>, _>>()?)
        .bind(ends.iter().map(|(_, settled)| settled.run_at.map(time)).collect::<Vec<_>>())
        .bind(ends.iter().map(|(_, settled)| settled.finished_at.map(time)).collect::<Vec<_>>())
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
