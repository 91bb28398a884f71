//! Daemons: their starts, and what follows the ends of their runs.

use hetuflow_core::id::{ScheduleId, TaskId};
use jiff::Timestamp;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{
    DaemonPlace, DaemonStart, Fired, PlannedSchedule, StoreError, Tended,
    daemon::{Facts, JobVersion, Obstacle, Phase, Step},
    row,
    sqlite::{Sqlite, Tx, event::insert::insert_one, task},
};

/// Daemons that are looked at together.
const AT_ONCE: i64 = 100;

/// What may have to be done something about: the cost is that of the daemons, and nothing is locked.
const UNSETTLED: &str = "select d.namespace, d.trigger_name, d.name from sched_daemon d \
    left join sched_task t on t.id = d.task_id \
    left join sched_trigger g on g.namespace = d.namespace and g.name = d.trigger_name \
    left join sched_job j on j.namespace = g.namespace and j.name = g.job_name \
    left join sched_schedule s on s.namespace = d.namespace and s.trigger_name = d.trigger_name and s.name = d.name \
        and s.kind = 'daemon' and s.enabled = 1 \
    where case \
        when d.phase = 'armed' then s.next_run_at is null or j.id is not d.job_id or j.revision is not d.job_revision \
        when t.status in (1, 2, 5, 8, 10) then d.phase in ('stopped', 'held') \
            or d.phase = 'stopping' and t.cancel_requested = 0 \
            or d.phase = 'running' and (s.id is null or j.id is not d.job_id or j.revision is not d.job_revision) \
        when d.phase = 'held' then t.id is null \
        when d.phase = 'stopped' then s.id is null or j.id is not d.job_id or j.revision is not d.job_revision \
        else true end \
    order by d.namespace, d.trigger_name, d.name limit ?";

const FACTS: &str = "select d.phase, d.task_id, coalesce(d.restarts, 0) as restarts, d.definition, \
    d.job_id as ran_job_id, d.job_revision as ran_revision, \
    coalesce(t.status, 0) as status, t.outcome, t.policy, t.finished_at, \
    coalesce(t.cancel_requested, 0) as cancel_requested, \
    (select i.started_at from sched_attempt i where i.task_id = d.task_id order by i.fence desc limit 1) \
        as started_at, \
    s.id as schedule_id, s.spec, s.next_run_at, j.id as job_id, j.revision as job_revision, j.config \
    from (select ?1 as namespace, ?2 as trigger_name, ?3 as name) p \
    left join sched_daemon d on d.namespace = p.namespace and d.trigger_name = p.trigger_name and d.name = p.name \
    left join sched_task t on t.id = d.task_id \
    left join sched_trigger g on g.namespace = p.namespace and g.name = p.trigger_name \
    left join sched_job j on j.namespace = g.namespace and j.name = g.job_name \
    left join sched_schedule s on s.namespace = p.namespace and s.trigger_name = p.trigger_name and s.name = p.name \
        and s.kind = 'daemon' and s.enabled = 1 and j.id is not null";

pub(super) async fn start(db: &Sqlite, start: &DaemonStart) -> Result<Fired, StoreError> {
    let mut tx = db.begin().await?;
    let Some(place) = place(&mut tx, start.id).await? else { return Ok(Fired::Elsewhere) };
    let facts = facts(&mut tx, &place).await?;
    let (Ok(restarts), Some(wanted)) = (facts.start(start), &facts.wanted) else {
        if facts.start(start) == Err(Obstacle::Run) {
            set_next(&mut tx, start.id, None).await?;
            tx.commit().await?;
        }
        return Ok(Fired::Elsewhere);
    };
    advance(&mut tx, start).await?;
    insert_one(&mut tx, &start.ingest).await?;
    for task in &start.ingest.tasks {
        keep(&mut tx, &place, start, task.id, restarts, wanted.job).await?;
    }
    tx.commit().await?;
    db.tasks_changed();
    Ok(Fired::Stored)
}

async fn place(tx: &mut Tx, id: ScheduleId) -> Result<Option<DaemonPlace>, StoreError> {
    let row = sqlx::query("select namespace, trigger_name, name from sched_schedule where id = ?")
        .bind(id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| DaemonPlace::from_row(&row)).transpose()
}

/// Nothing else is written meanwhile: the writer is alone.
async fn facts(connection: &mut SqliteConnection, place: &DaemonPlace) -> Result<Facts, StoreError> {
    let row = sqlx::query(FACTS)
        .bind(&place.namespace)
        .bind(&place.trigger)
        .bind(&place.name)
        .fetch_one(connection)
        .await?;
    Facts::from_row(&row)
}

/// It was read before in this transaction, and the writer is alone.
async fn advance(tx: &mut Tx, start: &DaemonStart) -> Result<(), StoreError> {
    sqlx::query("update sched_schedule set next_run_at = null, last_run_at = next_run_at where id = ?")
        .bind(start.id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn keep(
    tx: &mut Tx,
    place: &DaemonPlace,
    start: &DaemonStart,
    task_id: TaskId,
    restarts: u32,
    job: JobVersion,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_daemon (namespace, trigger_name, name, phase, task_id, created_at, restarts, definition, \
         job_id, job_revision) values (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?) \
         on conflict (namespace, trigger_name, name) do update set phase = excluded.phase, \
         task_id = excluded.task_id, created_at = excluded.created_at, restarts = excluded.restarts, \
         definition = excluded.definition, job_id = excluded.job_id, job_revision = excluded.job_revision",
    )
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .bind(task_id.uuid())
    .bind(row::created_at(task_id.uuid())?.as_microsecond())
    .bind(restarts)
    .bind(row::json(&start.definition)?)
    .bind(job.id.uuid())
    .bind(job.revision)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn tend(db: &Sqlite, now: Timestamp) -> Result<Vec<Tended>, StoreError> {
    let rows = sqlx::query(UNSETTLED).bind(AT_ONCE).fetch_all(&db.readers).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut tended = Vec::new();
    let mut tx = db.begin().await?;
    for row in &rows {
        let place = DaemonPlace::from_row(row)?;
        let step = facts(&mut tx, &place).await?.step(now);
        take(&mut tx, &place, step, now).await?;
        tended.extend(step.tending().map(|what| Tended { place, what }));
    }
    tx.commit().await?;
    if !tended.is_empty() {
        db.tasks_changed();
    }
    Ok(tended)
}

async fn take(tx: &mut Tx, place: &DaemonPlace, step: Step, now: Timestamp) -> Result<(), StoreError> {
    match step {
        Step::Leave => Ok(()),
        Step::Run(job) => run(tx, place, job).await,
        Step::End => end(tx, place, now).await,
        Step::Arm { schedule_id, at, restarts } => {
            set_next(tx, schedule_id, Some(at)).await?;
            set_phase(tx, place, Phase::Armed, Some(restarts)).await
        }
        Step::Settle(phase) => set_phase(tx, place, phase, None).await,
        Step::Forget => forget(tx, place, now).await,
    }
}

async fn set_next(tx: &mut Tx, id: ScheduleId, next: Option<Timestamp>) -> Result<(), StoreError> {
    sqlx::query("update sched_schedule set next_run_at = ? where id = ?")
        .bind(next.map(Timestamp::as_microsecond))
        .bind(id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn set_phase(
    tx: &mut Tx,
    place: &DaemonPlace,
    phase: Phase,
    restarts: Option<u32>,
) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_daemon set phase = ?, restarts = coalesce(?, restarts) \
         where namespace = ? and trigger_name = ? and name = ?",
    )
    .bind(phase.name())
    .bind(restarts)
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn run(tx: &mut Tx, place: &DaemonPlace, job: JobVersion) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_daemon set phase = 'running', job_id = ?, job_revision = ? \
         where namespace = ? and trigger_name = ? and name = ?",
    )
    .bind(job.id.uuid())
    .bind(job.revision)
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn end(tx: &mut Tx, place: &DaemonPlace, now: Timestamp) -> Result<(), StoreError> {
    let task_id: Uuid = sqlx::query_scalar(
        "update sched_daemon set phase = 'stopping' where namespace = ? and trigger_name = ? and name = ? \
         returning task_id",
    )
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .fetch_one(&mut **tx)
    .await?;
    task::end(tx, TaskId::from_uuid(task_id), now).await.map(drop)
}

/// A schedule that is there all the same (its job is not) starts anew once it may.
async fn forget(tx: &mut Tx, place: &DaemonPlace, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("delete from sched_daemon where namespace = ? and trigger_name = ? and name = ?")
        .bind(&place.namespace)
        .bind(&place.trigger)
        .bind(&place.name)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "update sched_schedule set next_run_at = ? where namespace = ? and trigger_name = ? and name = ? \
         and kind = 'daemon' and next_run_at is null",
    )
    .bind(now.as_microsecond())
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How it is, with the next time of that same moment.
pub(super) async fn show(db: &Sqlite, planned: &mut PlannedSchedule) -> Result<(), StoreError> {
    let facts = facts(&mut *db.readers.acquire().await?, &planned.place()).await?;
    if let Some(wanted) = &facts.wanted {
        planned.schedule.next_run_at = wanted.next_run_at;
    }
    planned.daemon = facts.now();
    Ok(())
}

pub(super) async fn any(db: &Sqlite) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("select exists (select 1 from sched_daemon)").fetch_one(&db.readers).await?)
}

/// Whether the task may be run again: there is one run of a daemon at a time, so that only its last one may, and only
/// while no other is planned.
pub(in crate::sqlite) async fn may_rerun(tx: &mut Tx, task_id: TaskId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "select exists (select 1 from sched_daemon where task_id = ? and phase <> 'armed')",
    )
    .bind(task_id.uuid())
    .fetch_one(&mut **tx)
    .await?)
}
