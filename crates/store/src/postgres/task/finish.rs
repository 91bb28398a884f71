//! Results. Successes, which are most, end their attempts and tasks in one statement; whatever may lead to a retry, and
//! whatever that statement does not find as it should be, is settled one by one under the locks of `attempt.rs`.

use hetuflow_core::{status::Status, task::Lease};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::attempt::{end_attempts, fences, instances, tasks};
use crate::{
    Finish, Report, StoreError,
    postgres::{
        Postgres,
        columns::{Time, at, time},
    },
    row::{self, Columns},
};

/// A task whose newest attempt is another, or has ended, is not found. 100 is `succeeded`. Every row is found by its
/// whole primary key, which opens one partition: `status + 0` keeps the planner from walking all leases instead, and a list
/// (`= any`) beside the join would compare each of the batch with each.
pub(in crate::postgres) const SUCCEED: &str = "
with u as materialized (
    select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::text[],
        $7::timestamptz[], $8::timestamptz[], $9::bigint[]) with ordinality
        as u(task_id, task_at, instance_id, instance_at, fence, outcome, started_at, finished_at, output_dropped, n)
),
task as (
    update sched_task t set status = 100, outcome = u.outcome::json, finished_at = u.finished_at, instance_id = null,
        leased_at = null
    from u
    where t.id = u.task_id and t.created_at = u.task_at
        and t.instance_id = u.instance_id and t.fence = u.fence and t.status + 0 in (5, 8, 10)
    returning u.*, t.job_id, t.agent_id, t.attempt, t.telling
),
instance as (
    insert into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at,
        finished_at, outcome, output_dropped)
    select instance_id, instance_at, task_id, job_id, agent_id, attempt, fence, 100, started_at, finished_at,
        outcome::json, output_dropped
    from task
    on conflict (id, created_at) do update set status = 100, started_at = coalesce(excluded.started_at, a.started_at),
        finished_at = excluded.finished_at, outcome = excluded.outcome, output_dropped = excluded.output_dropped
)
select n, exists (select 1 from sched_turn where queued)
    or exists (select 1 from sched_daemon d where d.task_id = any($1)) or telling = 1 as awaited from task";

pub(super) async fn finish(
    db: &Postgres,
    batch: &[Finish],
    now: Timestamp,
    random: f64,
) -> Result<Vec<Report>, StoreError> {
    failpoint!("finish.before");
    let mut reports = vec![None; batch.len()];
    let rows = succeed(db, batch).await?;
    if rows.iter().any(|(_, awaited)| *awaited) {
        // A run of a schedule may be waiting for one of these ends, or be the next one of a daemon; or one becomes an event.
        db.tasks_changed();
    }
    for (n, _) in rows {
        reports[n] = Some(Report::Recorded);
    }
    failpoint!("finish.between");
    let rest: Vec<usize> = (0..batch.len()).filter(|n| reports[*n].is_none()).collect();
    if !rest.is_empty() {
        let finishes: Vec<Finish> = rest.iter().map(|n| batch[*n].clone()).collect();
        let mut tx = db.begin().await?;
        let settled = end_attempts(&mut tx, &finishes, now, random).await?;
        failpoint!("finish.before_commit");
        tx.commit().await?;
        // A retry may follow.
        db.tasks_changed();
        for (n, report) in rest.into_iter().zip(settled) {
            reports[n] = Some(report);
        }
    }
    failpoint!("finish.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(reports.into_iter().map(|report| report.unwrap_or(Report::Fenced)).collect())
}

/// Yields the places in the batch of those that ended, and whether any task waits for an end.
async fn succeed(db: &Postgres, batch: &[Finish]) -> Result<Vec<(usize, bool)>, StoreError> {
    let mut order: Vec<usize> =
        (0..batch.len()).filter(|n| batch[*n].outcome.status() == Status::Succeeded).collect();
    if order.is_empty() {
        return Ok(Vec::new());
    }
    order.sort_by_key(|n| batch[*n].lease.task_id);
    let leases: Vec<Lease> = order.iter().map(|n| batch[*n].lease).collect();
    let finishes = || order.iter().map(|n| &batch[*n]);
    let mut hot = db.hot().await?;
    let rows = sqlx::query(SUCCEED)
        .bind(tasks(&leases))
        .bind(tasks(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(instances(&leases))
        .bind(instances(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(fences(&leases))
        .bind(finishes().map(|finish| row::json(&finish.outcome)).collect::<Result<Vec<_>, _>>()?)
        .bind(finishes().map(|finish| finish.started_at.map(time)).collect::<Vec<_>>())
        .bind(finishes().map(|finish| time(finish.finished_at)).collect::<Vec<_>>())
        .bind(finishes().map(|finish| row::signed(finish.output_dropped)).collect::<Vec<_>>())
        .fetch_all(&mut *hot)
        .await;
    let rows = hot.done(rows)?;
    rows.iter().map(|row| Ok((order[row::number::<usize>(row, "n")? - 1], row.flag("awaited")?))).collect()
}
