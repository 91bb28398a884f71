//! How far attempts have come, in two statements for a batch.

use std::collections::HashSet;

use hetuflow_core::{status::Status, task::Lease};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use crate::{
    Progress, Report, StoreError, row,
    sqlite::{
        Sqlite, Tx,
        batch::{Bound, MOST, Over, Script},
    },
};

/// What has come further is left alone. The plus keeps SQLite from walking the index of everything that is leased.
pub(in crate::sqlite) const ATTEMPTS: Over = Over {
    text: "insert or fail into sched_attempt as a (id, created_at, task_id, job_id, agent_id, attempt, fence, status, \
           started_at, output_dropped) \
           select t.instance_id, t.leased_at, t.id, t.job_id, t.agent_id, t.attempt, t.fence, u.column4, u.column5, 0 \
           from {rows} u cross join sched_task t where t.id = +u.column1 and t.instance_id = +u.column2 \
           and t.fence = +u.column3 and +t.status in (5, 8, 10) and t.status < u.column4 \
           on conflict (id) do update set status = excluded.status, \
           started_at = coalesce(excluded.started_at, a.started_at)",
    columns: 5,
};
/// 5 is `locked`, 8 `dispatched`, 10 `running`.
pub(in crate::sqlite) const TASKS: Over = Over {
    text: "update or fail sched_task as t set status = max(t.status, u.column4) from {rows} u \
           where t.id = +u.column1 and t.instance_id = +u.column2 and t.fence = +u.column3 and +t.status in (5, 8, 10)",
    columns: 4,
};
/// The leases that are in force.
pub(in crate::sqlite) const HELD: Over = Over {
    text: "select t.id, t.instance_id, t.fence from {rows} u cross join sched_task t \
           where t.id = +u.column1 and t.instance_id = +u.column2 and t.fence = +u.column3 and +t.status in (5, 8, 10)",
    columns: 3,
};

pub(super) async fn progress(db: &Sqlite, batch: &[Progress]) -> Result<Vec<Report>, StoreError> {
    let (first, later) = batch.split_at(batch.len().min(MOST));
    let (mut tx, done) = db.writer.turn().await?.begin(noted(first)).await?;
    let mut reports = Vec::with_capacity(batch.len());
    for (n, batch) in std::iter::once(first).chain(later.chunks(MOST)).enumerate() {
        let again = if n == 0 { Vec::new() } else { noted(batch).run(&mut tx).await? };
        let tasks = if n == 0 { done.get(1) } else { again.get(1) };
        if tasks.is_some_and(|tasks| tasks.changed == batch.len() as u64) {
            reports.extend(batch.iter().map(|_| Report::Recorded));
        } else {
            let held = held(&mut tx, batch).await?;
            let report = |held| if held { Report::Recorded } else { Report::Fenced };
            reports.extend(batch.iter().map(|one| report(held.contains(&one.lease))));
        }
    }
    failpoint!("progress.before_commit");
    tx.commit().await?;
    failpoint!("progress.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(reports)
}

/// The second statement changes as many as are in force.
fn noted(batch: &[Progress]) -> Script {
    let attempt = |bound: &mut Bound, one: &Progress| {
        lease(bound, one).bind(next(one)).bind(one.started_at.map(Timestamp::as_microsecond));
    };
    let task = |bound: &mut Bound, one: &Progress| {
        lease(bound, one).bind(next(one));
    };
    Script::default().over(ATTEMPTS, batch, attempt).over(TASKS, batch, task)
}

async fn held(tx: &mut Tx, batch: &[Progress]) -> Result<HashSet<Lease>, StoreError> {
    let task = |bound: &mut Bound, one: &Progress| {
        lease(bound, one);
    };
    HELD.run(tx, batch, task).await?.rows.iter().map(row::lease).collect()
}

fn lease<'a>(bound: &'a mut Bound, Progress { lease, .. }: &Progress) -> &'a mut Bound {
    bound.bind(lease.task_id.uuid()).bind(lease.instance_id.uuid()).bind(lease.fence)
}

fn next(progress: &Progress) -> i16 {
    if progress.started_at.is_some() { Status::Running.number() } else { Status::Dispatched.number() }
}
