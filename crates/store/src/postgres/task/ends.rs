//! Ends of tasks that become events, for triggers that ask for ends of jobs.

use hetuflow_core::id::TaskId;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use uuid::Uuid;

use super::Postgres;
use crate::{
    Ended, StoreError,
    postgres::columns::{Time, at, time},
    row,
};

/// The words of the partial index, which holds nothing else.
pub(in crate::postgres) const UNTOLD: &str = "
select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, t.schedule_id, t.event_id, t.status, t.outcome,
    t.scheduled_at, t.queued_for, t.finished_at, t.priority, t.policy, t.attempt, t.fence, t.cancel_requested,
    null::json as command, l.selector as lane_selector, l.agent_id as lane_agent, j.name as job_name
from sched_task t join sched_lane l on l.id = t.lane_id left join sched_job j on j.id = t.job_id
where t.telling > 0 and (t.status in (90, 91, 92, 99) or t.status = 100 and t.telling = 1) order by t.finished_at limit $1";

pub(super) async fn untold(db: &Postgres, limit: u32) -> Result<Vec<Ended>, StoreError> {
    let rows = sqlx::query(UNTOLD).bind(i64::from(limit)).fetch_all(&db.pool).await?;
    rows.iter().map(row::ended).collect()
}

pub(super) async fn note_told(db: &Postgres, ends: &[(TaskId, Timestamp)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ends.iter().map(|(id, _)| id.uuid()).collect();
    failpoint!("end.before_commit");
    sqlx::query(
        "update sched_task t set telling = -telling
         from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) as u(id, created_at, ended_at)
         where t.id = u.id and t.created_at = u.created_at and t.finished_at = u.ended_at and t.telling > 0",
    )
    .bind(&ids)
    .bind(ids.iter().copied().map(at).collect::<Vec<Time>>())
    .bind(ends.iter().map(|(_, ended_at)| time(*ended_at)).collect::<Vec<_>>())
    .execute(&db.pool)
    .await?;
    Ok(())
}
