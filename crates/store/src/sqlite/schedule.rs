//! Schedules on SQLite.

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

use super::{Sqlite, Tx, event::insert::insert_one};
use crate::{
    Ahead, DaemonStart, Due, Fire, Fired, Ingest, Ingested, Page, Passed, PlannedSchedule, ScheduleFilter,
    ScheduleStore, StoreError, Tended,
    row::{self, Columns},
};

/// Read in the order of the index, so that the cost is that of what is due, however many schedules there are: each
/// row then finds its trigger and job by their keys.
const DUE: &str = "select s.id, s.next_run_at from sched_schedule s indexed by sched_schedule_due \
    where s.enabled = 1 and s.next_run_at is not null and s.next_run_at <= ? \
    and exists (select 1 from sched_trigger t join sched_job j on j.namespace = t.namespace and j.name = t.job_name \
        where t.namespace = s.namespace and t.name = s.trigger_name) \
    order by s.next_run_at, s.id limit ?";

const NEXT: &str = "select s.next_run_at from sched_schedule s indexed by sched_schedule_due \
    where s.enabled = 1 and s.next_run_at is not null \
    and exists (select 1 from sched_trigger t join sched_job j on j.namespace = t.namespace and j.name = t.job_name \
        where t.namespace = s.namespace and t.name = s.trigger_name) \
    order by s.next_run_at, s.id limit 1";

#[async_trait]
impl ScheduleStore for Sqlite {
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query(DUE)
            .bind(now.as_microsecond())
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
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
            QueryBuilder::<sqlx::Sqlite>::new("select * from sched_schedule where kind <> 'event'");
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
        let rows = query.build().fetch_all(&self.readers).await?;
        let mut planned = rows.iter().map(row::planned_schedule).collect::<Result<Vec<_>, _>>()?;
        for one in planned.iter_mut().filter(|one| one.schedule.kind == ScheduleKind::Daemon) {
            daemon::show(self, one).await?;
        }
        Ok(planned)
    }

    async fn next_fire(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(NEXT).fetch_optional(&self.readers).await?;
        row.map(|row| row.time("next_run_at")).transpose()
    }

    async fn pass_turns(&self, now: Timestamp) -> Result<Passed, StoreError> {
        turn::pass(self, now).await
    }

    async fn ahead(&self, task_id: TaskId) -> Result<Option<Ahead>, StoreError> {
        turn::ahead(self, task_id).await
    }

    async fn start_daemon(&self, start: &DaemonStart) -> Result<Fired, StoreError> {
        daemon::start(self, start).await
    }

    async fn tend_daemons(&self, now: Timestamp) -> Result<Vec<Tended>, StoreError> {
        daemon::tend(self, now).await
    }

    async fn has_daemons(&self) -> Result<bool, StoreError> {
        daemon::any(self).await
    }

    async fn forget_turns(&self, limit: u32) -> Result<u64, StoreError> {
        turn::forget(self, limit).await
    }

    async fn fire(&self, batch: &[Fire]) -> Result<Vec<Fired>, StoreError> {
        let mut tx = self.begin().await?;
        let mut fired = Vec::with_capacity(batch.len());
        for fire in batch {
            fired.push(fire_one(&mut tx, fire).await?);
        }
        failpoint!("fire.before_commit");
        tx.commit().await?;
        failpoint!("fire.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        if fired.iter().any(|fired| *fired != Fired::Elsewhere) {
            self.tasks_changed();
        }
        Ok(fired)
    }
}

async fn fire_one(tx: &mut Tx, fire: &Fire) -> Result<Fired, StoreError> {
    if !advance(tx, fire).await? {
        return Ok(Fired::Elsewhere);
    }
    match &fire.ingest {
        None => Ok(Fired::Stored),
        Some(ingest) => store(tx, fire, ingest).await,
    }
}

/// Moves the schedule on, if this is still its next time.
async fn advance(tx: &mut Tx, fire: &Fire) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "update sched_schedule set next_run_at = ?, last_run_at = case when ? then next_run_at else last_run_at end \
         where id = ? and next_run_at = ? and enabled = 1",
    )
    .bind(fire.next.map(Timestamp::as_microsecond))
    .bind(fire.runs())
    .bind(fire.id.uuid())
    .bind(fire.run_at.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// A time that has fired before (the clock went back) only moves the schedule on.
async fn store(tx: &mut Tx, fire: &Fire, ingest: &Ingest) -> Result<Fired, StoreError> {
    let first = sqlx::query(
        "insert into sched_fire (schedule_id, run_at, event_id) values (?, ?, ?) \
         on conflict (schedule_id, run_at) do nothing",
    )
    .bind(fire.id.uuid())
    .bind(fire.run_at.as_microsecond())
    .bind(ingest.event.id.uuid())
    .execute(&mut **tx)
    .await?;
    if first.rows_affected() == 0 {
        return Ok(Fired::Elsewhere);
    }
    if let Some(turns) = fire.turns.as_ref().filter(|_| !ingest.tasks.is_empty()) {
        return turn::fire(tx, fire, ingest, turns).await;
    }
    match insert_one(tx, ingest).await? {
        Ingested::Stored | Ingested::Duplicate { .. } => Ok(Fired::Stored),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::{Options, sqlite::open::open_file};

    /// The cost of a look must not grow with the number of schedules.
    #[tokio::test]
    async fn what_is_due_is_a_range_of_the_index() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}/test.db", folder.path().display());
        let db = open_file(&Options { url, pool_size: 1 }).await.expect("a new database");
        for query in [DUE, NEXT] {
            let plan = sqlx::query(AssertSqlSafe(format!("explain query plan {query}")))
                .fetch_all(&db.readers)
                .await
                .expect("a plan");
            let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            assert!(steps[0].contains("sched_schedule_due"), "{steps:?}");
            let whole = |step: &String| step.contains("TEMP B-TREE") || step.contains("SCAN t");
            assert!(!steps.iter().any(whole), "{steps:?}");
        }
    }
}
