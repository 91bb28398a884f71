//! The claim: due tasks of one lane become leases of free slots. One writer means that nobody else can look meanwhile.

use std::collections::{BTreeSet, HashMap};

use hetuflow_core::{
    id::{AgentId, InstanceId},
    status::Status,
    task::{Lease, Task},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use super::Sqlite;
use crate::{
    Claimed, LaneId, LowWater, Slot, StoreError, WaitingLane,
    row::{self, Columns},
    sqlite::batch::{Bound, Done, MOST, Over, Script},
};

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
    let turn = db.writer.turn().await?;
    failpoint!("lease.before");
    let (mut tx, answers) = turn.begin(questions(lane, from, slots, now)?).await?;
    let claimed = choose(&answers, slots, now)?;
    let mut parts = claimed.chunks(MOST);
    let last = parts.next_back().unwrap_or_default();
    for part in parts {
        LEASE.run(&mut tx, part, lease).await?;
    }
    failpoint!("lease.before_commit");
    tx.end_with(Script::default().over(LEASE, last, lease)).await?;
    failpoint!("lease.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(claimed)
}

/// The sessions that the store knows; the agents come as JSON.
pub(in crate::sqlite) const EPOCHS: &str =
    "select a.id, a.session_epoch from json_each(?) u cross join sched_agent a where a.id = u.value";

/// The statuses are literals, because only then a partial index serves the query; the index is named, so that no
/// statistics make SQLite prefer another and sort.
pub(in crate::sqlite) const DUE: &str = "select t.*, l.selector as lane_selector, l.agent_id as lane_agent \
     from sched_task t indexed by sched_task_claim join sched_lane l on l.id = t.lane_id \
     where t.lane_id = ? and t.status in (1, 2) and t.scheduled_at <= ? and (t.scheduled_at, t.id) >= (?, ?) \
     order by t.scheduled_at, t.id limit ?";

fn questions(lane: LaneId, from: LowWater, slots: &[Slot], now: Timestamp) -> Result<Script, StoreError> {
    let agents: BTreeSet<&AgentId> = slots.iter().map(|slot| &slot.agent_id).collect();
    let agents = row::json(&agents)?;
    let epochs = |bound: &mut Bound, agents: String| {
        bound.bind(agents);
    };
    let due = |bound: &mut Bound, ()| {
        bound
            .bind(lane.0)
            .bind(now.as_microsecond())
            .bind(from.run_at.as_microsecond())
            .bind(from.id.uuid())
            .bind(i64::try_from(slots.len()).unwrap_or(i64::MAX));
    };
    Ok(Script::default().with(EPOCHS, Some(agents), epochs).with(DUE, Some(()), due))
}

/// The first due tasks, one for each slot whose session is the one that the store knows, in their order.
fn choose(answers: &[Done], slots: &[Slot], now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
    let [epochs, due] = answers else { return Ok(Vec::new()) };
    let epoch = |row: &SqliteRow| Ok((row.text("id")?, row.int("session_epoch")?));
    let epochs: HashMap<String, i64> = epochs.rows.iter().map(epoch).collect::<Result<_, StoreError>>()?;
    let slots = slots.iter().filter(|slot| epochs.get(slot.agent_id.as_str()) == Some(&slot.session_epoch));
    due.rows.iter().zip(slots).map(|(row, slot)| Ok(claimed(row::task(row)?, slot, now))).collect()
}

fn claimed(mut task: Task, slot: &Slot, now: Timestamp) -> Claimed {
    task.status = Status::Locked;
    task.attempt += 1;
    task.fence += 1;
    let lease = Lease { task_id: task.id, instance_id: InstanceId::at(now), fence: task.fence };
    Claimed { lease, agent_id: slot.agent_id.clone(), session_epoch: slot.session_epoch, task }
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

pub(in crate::sqlite) const LEASE: Over = Over {
    text: "update or fail sched_task as t set status = 5, attempt = t.attempt + 1, fence = t.fence + 1, agent_id = u.column2, \
           instance_id = u.column3, leased_at = u.column4 from {rows} u where t.id = +u.column1",
    columns: 4,
};

fn lease(bound: &mut Bound, claimed: &Claimed) {
    let instance_id = claimed.lease.instance_id.uuid();
    bound
        .bind(claimed.task.id.uuid())
        .bind(claimed.agent_id.as_str())
        .bind(instance_id)
        .created_at(instance_id);
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
