//! Ends of tasks that become events, for triggers that ask for ends of jobs.

use hetuflow_core::id::TaskId;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::Sqlite;
use crate::{Ended, StoreError, row};

/// The words of the partial index, which holds nothing else.
pub(in crate::sqlite) const UNTOLD: &str = "select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, \
    t.schedule_id, t.event_id, t.status, t.outcome, t.scheduled_at, t.queued_for, t.finished_at, t.priority, t.policy, \
    t.attempt, t.fence, t.cancel_requested, null as command, l.selector as lane_selector, l.agent_id as lane_agent, \
    j.name as job_name \
    from sched_task t join sched_lane l on l.id = t.lane_id left join sched_job j on j.id = t.job_id \
    where t.telling > 0 and (t.status in (90, 91, 92, 99) or t.status = 100 and t.telling = 1) order by t.finished_at limit ?";

pub(super) async fn untold(db: &Sqlite, limit: u32) -> Result<Vec<Ended>, StoreError> {
    let rows = sqlx::query(UNTOLD).bind(limit).fetch_all(&db.readers).await?;
    rows.iter().map(row::ended).collect()
}

pub(super) async fn note_told(db: &Sqlite, ends: &[(TaskId, Timestamp)]) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    for (id, ended_at) in ends {
        sqlx::query(
            "update sched_task set telling = -telling where id = ? and finished_at = ? and telling > 0",
        )
        .bind(id.uuid())
        .bind(ended_at.as_microsecond())
        .execute(&mut *tx)
        .await?;
    }
    failpoint!("end.before_commit");
    tx.commit().await?;
    Ok(())
}
