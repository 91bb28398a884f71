//! The claim: due tasks of one lane become leases of free slots, in one statement; and the look at what there is to
//! claim.

use std::collections::BTreeSet;

use hetuflow_core::{
    id::{AgentId, InstanceId},
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Claimed, LaneId, LowWater, Slot, StoreError, WaitingLane,
    postgres::{
        Postgres,
        columns::{at, time},
    },
    row::{self, Columns},
};

/// `agent` locks the sessions against a hello: one that has moved on takes nothing, and a hello that comes now
/// waits and then sees what was claimed. The slots are one row of lists, because a join by place would compare each
/// with each. `picked` skips what other servers are about to take. The update finds its
/// rows by their whole primary key, so that each opens one partition.
/// The statuses are literals, because only then the partial index serves.
pub(in crate::postgres) const CLAIM: &str = "
with agent as materialized (
    select id, session_epoch from sched_agent where id = any($2::text[]) order by id for share
),
slot as materialized (
    select count(*) as count, array_agg(s.agent_id order by s.n) as agents,
        array_agg(s.session_epoch order by s.n) as epochs, array_agg(s.instance_id order by s.n) as instances,
        array_agg(s.instance_at order by s.n) as times
    from unnest($3::text[], $4::bigint[], $5::uuid[], $6::timestamptz[]) with ordinality
        as s(agent_id, session_epoch, instance_id, instance_at, n)
    join agent a on a.id = s.agent_id and a.session_epoch = s.session_epoch
),
picked as materialized (
    select id, created_at, scheduled_at from sched_task
    where lane_id = $1 and status in (1, 2) and scheduled_at <= $7 and (scheduled_at, id) >= ($8, $9)
    order by scheduled_at, id
    limit (select count from slot)
    for update skip locked
),
pair as materialized (
    select p.id, p.created_at, p.place, s.agents[p.place] as agent_id, s.epochs[p.place] as session_epoch,
        s.instances[p.place] as instance_id, s.times[p.place] as instance_at
    from (select *, row_number() over (order by scheduled_at, id) as place from picked) p, slot s
),
task as (
    update sched_task t set status = 5, attempt = t.attempt + 1, fence = t.fence + 1, agent_id = p.agent_id,
        instance_id = p.instance_id, leased_at = p.instance_at
    from pair p
    where t.id = p.id and t.created_at = p.created_at
    returning t.*, p.session_epoch, p.place
)
select t.*, l.selector as lane_selector, l.agent_id as lane_agent
from task t join sched_lane l on l.id = t.lane_id order by t.place";

pub(super) async fn claim(
    db: &Postgres,
    lane: LaneId,
    from: LowWater,
    slots: &[Slot],
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    if slots.is_empty() {
        return Ok(Vec::new());
    }
    failpoint!("lease.before");
    let agents: BTreeSet<&str> = slots.iter().map(|slot| slot.agent_id.as_str()).collect();
    let instances: Vec<Uuid> = slots.iter().map(|_| InstanceId::at(now).uuid()).collect();
    let mut hot = db.hot().await?;
    let rows = sqlx::query(CLAIM)
        .bind(lane.0)
        .bind(agents.into_iter().collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.agent_id.as_str()).collect::<Vec<_>>())
        .bind(slots.iter().map(|slot| slot.session_epoch).collect::<Vec<_>>())
        .bind(&instances)
        .bind(instances.iter().map(|id| at(*id)).collect::<Vec<_>>())
        .bind(time(now))
        .bind(time(from.run_at))
        .bind(from.id.uuid())
        .fetch_all(&mut *hot)
        .await;
    let rows = hot.done(rows)?;
    failpoint!("lease.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    rows.iter().map(claimed).collect()
}

/// One probe of the claim's index for each lane.
pub(in crate::postgres) const LANES: &str = "
select l.id, l.selector, l.agent_id, l.priority, first.scheduled_at as next_at
from sched_lane l
left join unnest($1::bigint[], $2::timestamptz[], $3::uuid[]) as f(lane_id, run_at, id) on f.lane_id = l.id
cross join lateral (
    select t.scheduled_at from sched_task t
    where t.lane_id = l.id and t.status in (1, 2)
        and (t.scheduled_at, t.id) >= (coalesce(f.run_at, '-infinity'), coalesce(f.id, $4))
    order by t.scheduled_at, t.id limit 1
) first
order by l.priority desc, l.id";

pub(super) async fn waiting_lanes(
    db: &Postgres,
    from: &[(LaneId, LowWater)],
) -> Result<Vec<WaitingLane>, StoreError> {
    let mut hot = db.hot().await?;
    let rows = sqlx::query(LANES)
        .bind(from.iter().map(|(lane, _)| lane.0).collect::<Vec<_>>())
        .bind(from.iter().map(|(_, from)| time(from.run_at)).collect::<Vec<_>>())
        .bind(from.iter().map(|(_, from)| from.id.uuid()).collect::<Vec<_>>())
        .bind(Uuid::nil())
        .fetch_all(&mut *hot)
        .await;
    hot.done(rows)?.iter().map(row::waiting_lane).collect()
}

fn claimed(row: &sqlx::postgres::PgRow) -> Result<Claimed, StoreError> {
    let agent_id: AgentId = row::name(row, "agent_id")?;
    let lease: Lease = row::lease(row)?;
    Ok(Claimed { lease, agent_id, session_epoch: row.int("session_epoch")?, task: row::task(row)? })
}
