//! The claim: due tasks of one lane become leases of free slots. One writer means that nobody else can look meanwhile.

use std::collections::BTreeMap;

use hetuflow_core::{
    id::{AgentId, InstanceId, JobId},
    status::Status,
    task::{Lease, Task},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::{Sqlite, Tx};
use crate::{Claimed, LaneId, LowWater, Slot, StoreError, WaitingLane, row};

pub(super) async fn claim(
    db: &Sqlite,
    lane: LaneId,
    from: LowWater,
    slots: &[Slot],
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    if slots.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    failpoint!("lease.before");
    let slots = slots_in_force(&mut tx, slots.iter()).await?;
    let tasks = due(&mut tx, lane, from, slots.len(), now).await?;
    let mut claimed = Vec::with_capacity(tasks.len());
    for (task, slot) in tasks.into_iter().zip(slots) {
        claimed.push(lease(&mut tx, task, slot, now).await?);
    }
    failpoint!("lease.before_commit");
    tx.commit().await?;
    failpoint!("lease.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(claimed)
}

/// The slots whose session is the one that the store knows, in their order.
pub(in crate::sqlite) async fn slots_in_force<'a>(
    tx: &mut Tx,
    slots: impl Iterator<Item = &'a Slot> + Clone,
) -> Result<Vec<&'a Slot>, StoreError> {
    let mut epochs: BTreeMap<&AgentId, Option<i64>> = BTreeMap::new();
    for slot in slots.clone() {
        if !epochs.contains_key(&slot.agent_id) {
            let epoch = sqlx::query_scalar("select session_epoch from sched_agent where id = ?")
                .bind(slot.agent_id.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            epochs.insert(&slot.agent_id, epoch);
        }
    }
    Ok(slots.filter(|slot| epochs.get(&slot.agent_id) == Some(&Some(slot.session_epoch))).collect())
}

/// The statuses are literals, because only then a partial index serves the query; the index is named, so that no
/// statistics make SQLite prefer another and sort.
const DUE: &str = "select t.*, l.selector as lane_selector, l.agent_id as lane_agent \
     from sched_task t indexed by sched_task_claim join sched_lane l on l.id = t.lane_id \
     where t.lane_id = ? and t.status in (1, 2) and t.scheduled_at <= ? and (t.scheduled_at, t.id) >= (?, ?) \
     order by t.scheduled_at, t.id limit ?";

async fn due(
    tx: &mut Tx,
    lane: LaneId,
    from: LowWater,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Task>, StoreError> {
    let rows = sqlx::query(DUE)
        .bind(lane.0)
        .bind(now.as_microsecond())
        .bind(from.run_at.as_microsecond())
        .bind(from.id.uuid())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(row::task).collect()
}

/// One probe of the claim's index for each lane; the places to start from come as JSON, because SQLite takes no arrays.
const LANES: &str = "select l.id, l.selector, l.agent_id, l.priority, \
     (select t.scheduled_at from sched_task t indexed by sched_task_claim \
      where t.lane_id = l.id and t.status in (1, 2) \
          and (t.scheduled_at, t.id) >= (coalesce(f.value ->> 1, 0), coalesce(unhex(f.value ->> 2), x'')) \
      order by t.scheduled_at, t.id limit 1) as next_at \
     from sched_lane l left join json_each(?) f on f.value ->> 0 = l.id \
     where next_at is not null order by l.priority desc, l.id";

pub(super) async fn waiting_lanes(
    db: &Sqlite,
    from: &[(LaneId, LowWater)],
) -> Result<Vec<WaitingLane>, StoreError> {
    let from: Vec<(i64, i64, String)> = from
        .iter()
        .map(|(lane, from)| (lane.0, from.run_at.as_microsecond(), from.id.uuid().simple().to_string()))
        .collect();
    let rows = sqlx::query(LANES).bind(row::json(&from)?).fetch_all(&db.readers).await?;
    rows.iter().map(row::waiting_lane).collect()
}

async fn lease(tx: &mut Tx, mut task: Task, slot: &Slot, now: Timestamp) -> Result<Claimed, StoreError> {
    task.status = Status::Locked;
    task.attempt += 1;
    task.fence += 1;
    let lease = Lease { task_id: task.id, instance_id: InstanceId::at(now), fence: task.fence };
    sqlx::query("update sched_task set status = ?, attempt = ?, fence = ?, agent_id = ?, instance_id = ? where id = ?")
        .bind(task.status.number())
        .bind(task.attempt)
        .bind(task.fence)
        .bind(slot.agent_id.as_str())
        .bind(lease.instance_id.uuid())
        .bind(task.id.uuid())
        .execute(&mut **tx)
        .await?;
    insert_instance(tx, lease, task.job_id, slot, task.attempt).await?;
    Ok(Claimed { lease, agent_id: slot.agent_id.clone(), session_epoch: slot.session_epoch, task })
}

/// The attempt, from its lease on.
pub(in crate::sqlite) async fn insert_instance(
    tx: &mut Tx,
    lease: Lease,
    job_id: JobId,
    slot: &Slot,
    attempt: u32,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_task_instance (id, created_at, task_id, job_id, agent_id, session_epoch, attempt, fence, \
         status, output_dropped) values (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
    )
    .bind(lease.instance_id.uuid())
    .bind(row::created_at(lease.instance_id.uuid())?.as_microsecond())
    .bind(lease.task_id.uuid())
    .bind(job_id.uuid())
    .bind(slot.agent_id.as_str())
    .bind(slot.session_epoch)
    .bind(attempt)
    .bind(lease.fence)
    .bind(Status::Locked.number())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::{Options, sqlite::open::open_file};

    #[tokio::test]
    async fn a_claim_reads_the_queue_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}/test.db", folder.path().display());
        let db = open_file(&Options { url, pool_size: 1 }).await.expect("a new database");
        let plan = sqlx::query(AssertSqlSafe(format!("explain query plan {DUE}")))
            .fetch_all(&db.readers)
            .await
            .expect("a plan");
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains("sched_task_claim")), "{steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
    }
}
