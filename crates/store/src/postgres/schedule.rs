//! Schedules on PostgreSQL.

pub(super) mod daemon;
mod turn;

use async_trait::async_trait;
use hetuflow_core::{
    id::{ScheduleId, TaskId},
    schedule::ScheduleKind,
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{Postgres, Tx, columns::time, event::insert::insert, lanes, retrying};
use crate::{
    Ahead, DaemonStart, Due, Fire, Fired, Ingest, Page, Passed, PlannedSchedule, ScheduleFilter,
    ScheduleStore, StoreError, Tended,
    lanes::Lanes,
    row::{self, Columns},
};

/// Read in the order of the index, so that the cost is that of what is due, however many schedules there are: each
/// row then finds its trigger and job by their keys (`offset 0` keeps the planner from joining the whole tables).
pub(in crate::postgres) const DUE: &str = "select s.id, s.next_run_at from sched_schedule s
    where s.enabled and s.next_run_at is not null and s.next_run_at <= $1
    and exists (select 1 from sched_trigger t where t.namespace = s.namespace and t.name = s.trigger_name
        and exists (select 1 from sched_job j where j.namespace = t.namespace and j.name = t.job_name offset 0) offset 0)
    order by s.next_run_at, s.id limit $2";

pub(in crate::postgres) const NEXT: &str = "select s.next_run_at from sched_schedule s
    where s.enabled and s.next_run_at is not null
    and exists (select 1 from sched_trigger t where t.namespace = s.namespace and t.name = s.trigger_name
        and exists (select 1 from sched_job j where j.namespace = t.namespace and j.name = t.job_name offset 0) offset 0)
    order by s.next_run_at, s.id limit 1";

#[async_trait]
impl ScheduleStore for Postgres {
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query(DUE).bind(time(now)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                Ok(Due { id: ScheduleId::from_uuid(row.uuid("id")?), run_at: row.time("next_run_at")? })
            })
            .collect()
    }

    async fn schedules(
        &self,
        filter: &ScheduleFilter,
        page: Page,
    ) -> Result<Vec<PlannedSchedule>, StoreError> {
        let mut query =
            QueryBuilder::<sqlx::Postgres>::new("select * from sched_schedule where kind <> 'event'");
        if let Some(id) = filter.id {
            query.push(" and id = ").push_bind(id.uuid());
        }
        if let Some(namespace) = &filter.namespace {
            query.push(" and namespace = ").push_bind(namespace.as_str().to_owned());
        }
        if let Some(trigger) = &filter.trigger {
            query.push(" and trigger_name = ").push_bind(trigger.clone());
        }
        if let Some(before) = page.before {
            query.push(" and id < ").push_bind(before);
        }
        query.push(" order by id desc limit ").push_bind(row::page_limit(page));
        let rows = query.build().fetch_all(&self.pool).await?;
        let mut planned = rows.iter().map(row::planned_schedule).collect::<Result<Vec<_>, _>>()?;
        for one in planned.iter_mut().filter(|one| one.schedule.kind == ScheduleKind::Daemon) {
            daemon::show(self, one).await?;
        }
        Ok(planned)
    }

    async fn next_fire(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(NEXT).fetch_optional(&self.pool).await?;
        row.map(|row| row.time("next_run_at")).transpose()
    }

    async fn pass_turns(&self, now: Timestamp) -> Result<Passed, StoreError> {
        retrying!(turn::pass(self, now))
    }

    async fn ahead(&self, task_id: TaskId) -> Result<Option<Ahead>, StoreError> {
        turn::ahead(self, task_id).await
    }

    async fn start_daemon(&self, start: &DaemonStart) -> Result<Fired, StoreError> {
        let fired = retrying!(daemon::start(self, start))?;
        self.tasks_changed();
        Ok(fired)
    }

    async fn tend_daemons(&self, now: Timestamp) -> Result<Vec<Tended>, StoreError> {
        let tended = retrying!(daemon::tend(self, now))?;
        if !tended.is_empty() {
            self.tasks_changed();
        }
        Ok(tended)
    }

    async fn has_daemons(&self) -> Result<bool, StoreError> {
        daemon::any(self).await
    }

    async fn forget_turns(&self, limit: u32) -> Result<u64, StoreError> {
        retrying!(turn::forget(self, limit))
    }

    async fn fire(&self, batch: &[Fire]) -> Result<Vec<Fired>, StoreError> {
        let fired = retrying!(fire_all(self, batch))?;
        if fired.iter().any(|fired| *fired != Fired::Elsewhere) {
            self.tasks_changed();
        }
        Ok(fired)
    }
}

/// In the order of the schedules' ids, so that two servers do not wait for each other.
async fn fire_all(db: &Postgres, batch: &[Fire]) -> Result<Vec<Fired>, StoreError> {
    // Before the transaction: what it stores of lanes may be rolled back with it.
    let tasks = batch.iter().filter_map(|fire| fire.ingest.as_ref()).flat_map(|ingest| &ingest.tasks);
    lanes::ids(&db.lanes, &mut *db.pool.acquire().await?, tasks).await?;
    let mut tx = db.begin().await?;
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|n| batch[*n].id);
    let mut fired = vec![Fired::Elsewhere; batch.len()];
    for n in order {
        fired[n] = fire_one(&mut tx, &db.lanes, &batch[n]).await?;
    }
    failpoint!("fire.before_commit");
    tx.commit().await?;
    failpoint!("fire.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(fired)
}

async fn fire_one(tx: &mut Tx, lanes: &Lanes, fire: &Fire) -> Result<Fired, StoreError> {
    if !advance(tx, fire).await? {
        return Ok(Fired::Elsewhere);
    }
    match &fire.ingest {
        None => Ok(Fired::Stored),
        Some(ingest) => store(tx, lanes, fire, ingest).await,
    }
}

/// Moves the schedule on, if this is still its next time. Another server that fires it waits here and then
/// finds another time.
async fn advance(tx: &mut Tx, fire: &Fire) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "update sched_schedule set next_run_at = $1, last_run_at = case when $2 then next_run_at else last_run_at end
         where id = $3 and next_run_at = $4 and enabled",
    )
    .bind(fire.next.map(time))
    .bind(fire.runs())
    .bind(fire.id.uuid())
    .bind(time(fire.run_at))
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// A time that has fired before (the clock went back) only moves the schedule on.
async fn store(tx: &mut Tx, lanes: &Lanes, fire: &Fire, ingest: &Ingest) -> Result<Fired, StoreError> {
    let first = sqlx::query(
        "insert into sched_fire (schedule_id, run_at, event_id) values ($1, $2, $3)
         on conflict (schedule_id, run_at) do nothing",
    )
    .bind(fire.id.uuid())
    .bind(time(fire.run_at))
    .bind(ingest.event.id.uuid())
    .execute(&mut **tx)
    .await?;
    if first.rows_affected() == 0 {
        return Ok(Fired::Elsewhere);
    }
    if let Some(turns) = fire.turns.as_ref().filter(|_| !ingest.tasks.is_empty()) {
        return turn::fire(tx, lanes, fire, ingest, turns).await;
    }
    insert(tx, lanes, std::slice::from_ref(ingest), &[]).await?;
    Ok(Fired::Stored)
}
