//! How far attempts have come, in one statement for a batch.

use crate::{
    Progress, Report, StoreError,
    postgres::{
        Postgres,
        columns::{Time, at, time},
    },
    row,
};
use hetuflow_core::task::Lease;
use hetuflow_failpoint::failpoint;

use super::attempt::{fences, instances, tasks};

/// `held` locks the tasks whose newest attempt this is, in the order of the batch; only those are answered. What has
/// come further is left alone. 5 is `locked`, 8 `dispatched`, 10 `running`.
pub(in crate::postgres) const PROGRESS: &str = "
with held as materialized (
    select u.n, u.started_at, u.instance_at, t.*
    from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::timestamptz[])
        with ordinality as u(task_id, task_at, instance_id, instance_at, fence, started_at, n)
    cross join lateral (
        select id, created_at, job_id, agent_id, attempt, fence, instance_id, status from sched_task t
        where t.id = u.task_id and t.created_at = u.task_at and t.instance_id = u.instance_id and t.fence = u.fence
            and t.status in (5, 8, 10)
        offset 0 for update
    ) t
),
news as materialized (
    select *, case when started_at is null then 8 else 10 end::smallint as next from held
    where status = 5 or (status = 8 and started_at is not null)
),
task as (
    update sched_task t set status = n.next from news n
    where t.id = n.id and t.created_at = n.created_at
),
instance as (
    insert into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, started_at,
        output_dropped)
    select instance_id, instance_at, id, job_id, agent_id, attempt, fence, next, started_at, 0 from news
    on conflict (id, created_at) do update set status = excluded.status,
        started_at = coalesce(excluded.started_at, a.started_at)
)
select n from held";

pub(super) async fn progress(db: &Postgres, batch: &[Progress]) -> Result<Vec<Report>, StoreError> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|n| batch[*n].lease.task_id);
    let leases: Vec<Lease> = order.iter().map(|n| batch[*n].lease).collect();
    failpoint!("progress.before_commit");
    let mut hot = db.hot().await?;
    let rows = sqlx::query(PROGRESS)
        .bind(tasks(&leases))
        .bind(tasks(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(instances(&leases))
        .bind(instances(&leases).into_iter().map(at).collect::<Vec<Time>>())
        .bind(fences(&leases))
        .bind(order.iter().map(|n| batch[*n].started_at.map(time)).collect::<Vec<_>>())
        .fetch_all(&mut *hot)
        .await;
    let rows = hot.done(rows)?;
    failpoint!("progress.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    let mut reports = vec![Report::Fenced; batch.len()];
    for row in &rows {
        let place: usize = row::number(row, "n")?;
        reports[order[place - 1]] = Report::Recorded;
    }
    Ok(reports)
}
