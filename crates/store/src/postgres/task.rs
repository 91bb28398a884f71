//! Tasks on PostgreSQL. The life of an attempt is in `task/attempt.rs`, its beginning in `task/claim.rs`.

pub(super) mod attempt;
mod bulk;
pub(super) mod claim;
pub(super) mod ends;
pub(super) mod finish;
pub(super) mod list;
mod output;
pub(super) mod progress;

use async_trait::async_trait;
use hetuflow_core::{
    id::{AgentId, InstanceId, TaskId},
    retry::RetryPolicy,
    status::Status,
    task::{Lease, OutputChunk, Task, TaskInstance},
};
use jiff::Timestamp;

use super::{
    Postgres, Tx,
    columns::{at, time},
    retrying,
    schedule::daemon,
};
use crate::{
    Backlog, Cancelled, CancelledAll, Claimed, Ended, Finish, InstanceFilter, LaneId, LowWater, Page,
    Progress, Report, Retried, Slot, StoreError, Stretch, TaskFilter, TaskStore, WaitingLane,
    row::{self, Columns},
    settle,
};

pub(super) const CANCELLING: &str = "select t.id, t.instance_id, t.fence, t.agent_id from sched_task t
     join sched_agent a on a.id = t.agent_id
     where t.cancel_requested and t.status in (5, 8, 10) and a.online and a.session_until > now()
     order by t.id";

#[async_trait]
impl TaskStore for Postgres {
    async fn waiting_lanes(&self, from: &[(LaneId, LowWater)]) -> Result<Vec<WaitingLane>, StoreError> {
        claim::waiting_lanes(self, from).await
    }

    async fn backlog(&self, backlog: Backlog<'_>) -> Result<u64, StoreError> {
        list::backlog(self, backlog).await
    }

    async fn claim(
        &self,
        lane: LaneId,
        from: LowWater,
        slots: &[Slot],
        now: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        retrying!(claim::claim(self, lane, from, slots, now))
    }

    async fn progress(&self, batch: &[Progress]) -> Result<Vec<Report>, StoreError> {
        retrying!(progress::progress(self, batch))
    }

    async fn give_back(&self, lease: Lease, now: Timestamp) -> Result<Report, StoreError> {
        let report = retrying!(attempt::give_back(self, lease, now))?;
        self.tasks_changed();
        Ok(report)
    }

    async fn finish(&self, batch: &[Finish], now: Timestamp, random: f64) -> Result<Vec<Report>, StoreError> {
        retrying!(finish::finish(self, batch, now, random))
    }

    async fn cancel(&self, task_id: TaskId, now: Timestamp) -> Result<Cancelled, StoreError> {
        let cancelled = retrying!(cancel(self, task_id, now))?;
        self.tasks_changed();
        Ok(cancelled)
    }

    async fn retry(&self, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
        retrying!(retry(self, task_id, now))?;
        self.tasks_changed();
        Ok(())
    }

    async fn untold_ends(&self, limit: u32) -> Result<Vec<Ended>, StoreError> {
        ends::untold(self, limit).await
    }

    async fn note_told(&self, ends: &[(TaskId, Timestamp)]) -> Result<(), StoreError> {
        ends::note_told(self, ends).await
    }

    async fn cancel_requests(&self) -> Result<Vec<(AgentId, Lease)>, StoreError> {
        let rows = sqlx::query(CANCELLING).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row::name(row, "agent_id")?, row::lease(row)?))).collect()
    }

    async fn retry_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<Retried, StoreError> {
        let retried = retrying!(bulk::retry(self, filter, stretch, now))?;
        self.tasks_changed();
        Ok(retried)
    }

    async fn cancel_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<CancelledAll, StoreError> {
        let cancelled = retrying!(bulk::cancel(self, filter, stretch, now))?;
        self.tasks_changed();
        Ok(cancelled)
    }

    async fn count_tasks(&self, filter: &TaskFilter, at_most: u64) -> Result<u64, StoreError> {
        list::count(self, filter, at_most).await
    }

    async fn task(&self, id: TaskId) -> Result<Task, StoreError> {
        list::task(self, id).await
    }

    async fn tasks(&self, filter: &TaskFilter, page: Page) -> Result<Vec<Task>, StoreError> {
        list::tasks(self, filter, page).await
    }

    async fn instance(&self, id: InstanceId) -> Result<TaskInstance, StoreError> {
        list::instance(self, id).await
    }

    async fn instances(&self, filter: &InstanceFilter, page: Page) -> Result<Vec<TaskInstance>, StoreError> {
        list::instances(self, filter, page).await
    }

    async fn append_output(&self, chunks: &[OutputChunk]) -> Result<(), StoreError> {
        retrying!(output::append(self, chunks))
    }

    async fn output(
        &self,
        instance_id: InstanceId,
        from_seq: u64,
        limit: u32,
    ) -> Result<Vec<OutputChunk>, StoreError> {
        output::read(self, instance_id, from_seq, limit).await
    }
}

/// Cancels a task that waits and asks for the end of one that is held: whether one has to wait for that. One that has
/// ended stays as it is.
pub(super) async fn end(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<bool, StoreError> {
    match cancel_unended(tx, task_id, now).await {
        Ok(Unended::Cancelled(Cancelled::Asked { .. })) => Ok(true),
        Ok(Unended::Cancelled(Cancelled::Now) | Unended::No { .. }) | Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What became of a task that should be cancelled if it has not ended.
enum Unended {
    Cancelled(Cancelled),
    /// It has.
    No {
        status: Status,
        daemon: bool,
    },
}

async fn cancel(db: &Postgres, task_id: TaskId, now: Timestamp) -> Result<Cancelled, StoreError> {
    let mut tx = db.begin().await?;
    let cancelled = match cancel_unended(&mut tx, task_id, now).await? {
        Unended::Cancelled(cancelled) => cancelled,
        Unended::No { status, daemon: false } if status.is_dead() => {
            give_up(&mut tx, task_id).await?;
            Cancelled::Now
        }
        Unended::No { status, .. } => {
            return Err(StoreError::Conflict(format!("the task has ended ({status})")));
        }
    };
    tx.commit().await?;
    Ok(cancelled)
}

async fn cancel_unended(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<Unended, StoreError> {
    let row = sqlx::query(
        "select id, status, fence, instance_id, agent_id, policy from sched_task
         where id = $1 and created_at = $2 for update",
    )
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(StoreError::NotFound)?;
    let status = row::status(&row, "status")?;
    if status.is_leased() {
        sqlx::query("update sched_task set cancel_requested = true where id = $1 and created_at = $2")
            .bind(task_id.uuid())
            .bind(at(task_id.uuid()))
            .execute(&mut **tx)
            .await?;
        let (agent_id, lease) = (row::name(&row, "agent_id")?, row::lease(&row)?);
        return Ok(Unended::Cancelled(Cancelled::Asked { agent_id, lease }));
    }
    if !status.is_waiting() {
        return Ok(Unended::No { status, daemon: row.json::<RetryPolicy>("policy")?.daemon });
    }
    sqlx::query(
        "update sched_task set status = $1, outcome = $2::text::json, finished_at = $3
         where id = $4 and created_at = $5",
    )
    .bind(Status::Cancelled.number())
    .bind(row::json(&settle::cancelled_before_start())?)
    .bind(time(now))
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .execute(&mut **tx)
    .await?;
    Ok(Unended::Cancelled(Cancelled::Now))
}

async fn give_up(tx: &mut Tx, task_id: TaskId) -> Result<(), StoreError> {
    sqlx::query("update sched_task set status = $1 where id = $2 and created_at = $3")
        .bind(Status::Cancelled.number())
        .bind(task_id.uuid())
        .bind(at(task_id.uuid()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn retry(db: &Postgres, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    // First, because whoever looks after daemons locks in this order.
    let may_rerun = daemon::may_rerun(&mut tx, task_id).await?;
    let row = sqlx::query(
        "select status, command is not null as runnable, policy from sched_task
         where id = $1 and created_at = $2 for update",
    )
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::NotFound)?;
    let status = row::status(&row, "status")?;
    if !status.is_final() {
        return Err(StoreError::Conflict(format!("the task has not ended ({status})")));
    }
    if !row.flag("runnable")? {
        return Err(StoreError::Conflict(
            "the task has no command: its templates could not be filled".to_owned(),
        ));
    }
    if !may_rerun && row.json::<RetryPolicy>("policy")?.daemon {
        return Err(settle::not_the_last_run());
    }
    sqlx::query(
        "update sched_task set status = $1, scheduled_at = $2, queued_for = null, outcome = null, finished_at = null,
            cancel_requested = false, telling = abs(telling)
         where id = $3 and created_at = $4",
    )
    .bind(Status::Pending.number())
    .bind(time(now))
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
