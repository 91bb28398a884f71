//! Schedules on PostgreSQL.

use async_trait::async_trait;
use hetuflow_core::id::ScheduleId;
use jiff::Timestamp;

use super::{Postgres, Tx, columns::time, event::insert::insert, retrying};
use crate::{Due, Fire, Fired, Ingest, ScheduleStore, StoreError, row::Columns};

#[async_trait]
impl ScheduleStore for Postgres {
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let rows = sqlx::query(
            "select s.id, s.next_run_at from sched_schedule s
             join sched_trigger t on t.namespace = s.namespace and t.name = s.trigger_name
             join sched_job j on j.namespace = t.namespace and j.name = t.job_name
             where s.enabled and s.next_run_at is not null and s.next_run_at <= $1
             order by s.next_run_at, s.id limit $2",
        )
        .bind(time(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Due { id: ScheduleId::from_uuid(row.uuid("id")?), run_at: row.time("next_run_at")? })
            })
            .collect()
    }

    async fn next_fire(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(
            "select min(s.next_run_at) as next from sched_schedule s
             join sched_trigger t on t.namespace = s.namespace and t.name = s.trigger_name
             join sched_job j on j.namespace = t.namespace and j.name = t.job_name
             where s.enabled and s.next_run_at is not null",
        )
        .fetch_one(&self.pool)
        .await?;
        row.time_or_null("next")
    }

    async fn fire(&self, fire: Fire) -> Result<Fired, StoreError> {
        let fired = retrying!(fire_once(self, &fire))?;
        if fired == Fired::Stored {
            self.tasks_changed();
        }
        Ok(fired)
    }
}

async fn fire_once(db: &Postgres, fire: &Fire) -> Result<Fired, StoreError> {
    let mut tx = db.begin().await?;
    if !advance(&mut tx, fire).await? {
        return Ok(Fired::Elsewhere);
    }
    let fired = match &fire.ingest {
        None => Fired::Stored,
        Some(ingest) => store(&mut tx, fire, ingest).await?,
    };
    tx.commit().await?;
    Ok(fired)
}

/// Moves the schedule on, if this is still its next time. Another server that fires it waits here and then
/// finds another time.
async fn advance(tx: &mut Tx, fire: &Fire) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "update sched_schedule set next_run_at = $1, last_run_at = case when $2 then next_run_at else last_run_at end
         where id = $3 and next_run_at = $4 and enabled",
    )
    .bind(fire.next.map(time))
    .bind(fire.ingest.is_some())
    .bind(fire.id.uuid())
    .bind(time(fire.run_at))
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// A time that has fired before (the clock went back) only moves the schedule on.
async fn store(tx: &mut Tx, fire: &Fire, ingest: &Ingest) -> Result<Fired, StoreError> {
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
    insert(tx, std::slice::from_ref(ingest)).await?;
    Ok(Fired::Stored)
}
