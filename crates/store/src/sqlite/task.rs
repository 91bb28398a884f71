//! Tasks on SQLite. An attempt begins in `task/claim.rs` and ends in `task/finish.rs` or `task/attempt.rs`.

pub(super) mod attempt;
mod bulk;
pub(super) mod claim;
pub(super) mod ends;
pub(super) mod finish;
pub(super) mod list;
pub(super) mod output;
pub(super) mod progress;

use async_trait::async_trait;
use hetuflow_core::{
    id::{AgentId, InstanceId, TaskId},
    retry::RetryPolicy,
    status::Status,
    task::{Lease, OutputChunk, Task, TaskInstance},
};
use jiff::Timestamp;

use super::{Sqlite, Tx, schedule::daemon};
use crate::{
    Backlog, Cancelled, CancelledAll, Claimed, Ended, Finish, InstanceFilter, LaneId, LowWater, Page,
    Progress, Report, Retried, Slot, StoreError, Stretch, TaskFilter, TaskStore, WaitingLane,
    row::{self, Columns},
    settle,
};

/// The index is named: without it all tasks that there ever were are looked at, to have them in their order.
pub(super) const CANCELLING: &str = "select t.id, t.instance_id, t.fence, t.agent_id \
    from sched_task t indexed by sched_task_cancelling cross join sched_agent a \
    where a.id = t.agent_id and t.cancel_requested = 1 and t.status in (5, 8, 10) and a.online = 1 \
    and a.session_until > cast(unixepoch('now', 'subsec') * 1000000 as integer) order by t.id";

#[async_trait]
impl TaskStore for Sqlite {
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
        claim::claim(self, lane, from, slots, now).await
    }

    async fn progress(&self, batch: &[Progress]) -> Result<Vec<Report>, StoreError> {
        progress::progress(self, batch).await
    }

    async fn give_back(&self, lease: Lease, now: Timestamp) -> Result<Report, StoreError> {
        attempt::give_back(self, lease, now).await
    }

    async fn finish(&self, batch: &[Finish], now: Timestamp, random: f64) -> Result<Vec<Report>, StoreError> {
        finish::finish(self, batch, now, random).await
    }

    async fn cancel(&self, task_id: TaskId, now: Timestamp) -> Result<Cancelled, StoreError> {
        let mut tx = self.begin().await?;
        let cancelled = cancel(&mut tx, task_id, now).await?;
        tx.commit().await?;
        self.tasks_changed();
        Ok(cancelled)
    }

    async fn retry(&self, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        retry(&mut tx, task_id, now).await?;
        tx.commit().await?;
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
        let rows = sqlx::query(CANCELLING).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row::name(row, "agent_id")?, row::lease(row)?))).collect()
    }

    async fn retry_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<Retried, StoreError> {
        let mut tx = self.begin().await?;
        let retried = bulk::retry(&mut tx, filter, stretch, now).await?;
        tx.commit().await?;
        self.tasks_changed();
        Ok(retried)
    }

    async fn cancel_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<CancelledAll, StoreError> {
        let mut tx = self.begin().await?;
        let cancelled = bulk::cancel(&mut tx, filter, stretch, now).await?;
        tx.commit().await?;
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
        output::append(self, chunks).await
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

async fn cancel(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<Cancelled, StoreError> {
    let row =
        sqlx::query("select id, status, fence, instance_id, agent_id, policy from sched_task where id = ?")
            .bind(task_id.uuid())
            .fetch_optional(&mut **tx)
            .await?
            .ok_or(StoreError::NotFound)?;
    let status = row::status(&row, "status")?;
    if status.is_leased() {
        ask_to_end(tx, task_id).await?;
        return Ok(Cancelled::Asked { agent_id: row::name(&row, "agent_id")?, lease: row::lease(&row)? });
    }
    if status.is_dead() && !row.json::<RetryPolicy>("policy")?.daemon {
        give_up(tx, task_id).await?;
        return Ok(Cancelled::Now);
    }
    if !status.is_waiting() {
        return Err(StoreError::Conflict(format!("the task has ended ({status})")));
    }
    cancel_waiting(tx, task_id, now).await?;
    Ok(Cancelled::Now)
}

/// Cancels a task that waits and asks for the end of one that is held: whether one has to wait for that. One that has
/// ended stays as it is.
pub(super) async fn end(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<bool, StoreError> {
    match cancel(tx, task_id, now).await {
        Ok(Cancelled::Asked { .. }) => Ok(true),
        Ok(Cancelled::Now) | Err(StoreError::Conflict(_) | StoreError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn ask_to_end(tx: &mut Tx, task_id: TaskId) -> Result<(), StoreError> {
    sqlx::query("update sched_task set cancel_requested = 1 where id = ?")
        .bind(task_id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn give_up(tx: &mut Tx, task_id: TaskId) -> Result<(), StoreError> {
    sqlx::query("update sched_task set status = ? where id = ?")
        .bind(Status::Cancelled.number())
        .bind(task_id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn cancel_waiting(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("update sched_task set status = ?, outcome = ?, finished_at = ? where id = ?")
        .bind(Status::Cancelled.number())
        .bind(row::json(&settle::cancelled_before_start())?)
        .bind(now.as_microsecond())
        .bind(task_id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn retry(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
    let row =
        sqlx::query("select status, command is not null as runnable, policy from sched_task where id = ?")
            .bind(task_id.uuid())
            .fetch_optional(&mut **tx)
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
    if row.json::<RetryPolicy>("policy")?.daemon && !daemon::may_rerun(tx, task_id).await? {
        return Err(settle::not_the_last_run());
    }
    revive(tx, task_id, now).await
}

async fn revive(tx: &mut Tx, task_id: TaskId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_task set status = ?, scheduled_at = ?, queued_for = null, outcome = null, finished_at = null, cancel_requested = 0, \
         telling = abs(telling) \
         where id = ?",
    )
    .bind(Status::Pending.number())
    .bind(now.as_microsecond())
    .bind(task_id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
