//! Daemons: their starts, and what follows the ends of their runs. Whoever decides about one locks its row first; the
//! schedule and the task come after that.

use hetuflow_core::id::{ScheduleId, TaskId};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    DaemonPlace, DaemonStart, Fired, PlannedSchedule, StoreError, Tended,
    daemon::{Facts, JobVersion, Obstacle, Phase, Step},
    postgres::{
        Postgres, Tx,
        columns::{at, time},
        event::insert::insert as insert_events,
        lanes, task,
    },
    row,
};

/// Daemons that are looked at together.
const AT_ONCE: i64 = 100;

/// What may have to be done something about: the cost is that of the daemons, and nothing is locked.
const UNSETTLED: &str = "select d.namespace, d.trigger_name, d.name from sched_daemon d
    left join sched_task t on t.id = d.task_id and t.created_at = d.created_at
    left join sched_trigger g on g.namespace = d.namespace and g.name = d.trigger_name
    left join sched_job j on j.namespace = g.namespace and j.name = g.job_name
    left join sched_schedule s on s.namespace = d.namespace and s.trigger_name = d.trigger_name and s.name = d.name
        and s.kind = 'daemon' and s.enabled
    where case
        when d.phase = 'armed' then s.next_run_at is null or j.id is distinct from d.job_id
            or j.revision is distinct from d.job_revision
        when t.status in (1, 2, 5, 8, 10) then d.phase in ('stopped', 'held')
            or d.phase = 'stopping' and not t.cancel_requested
            or d.phase = 'running' and (s.id is null or j.id is distinct from d.job_id
                or j.revision is distinct from d.job_revision)
        when d.phase = 'held' then t.id is null
        when d.phase = 'stopped' then s.id is null or j.id is distinct from d.job_id
            or j.revision is distinct from d.job_revision
        else true end
    order by d.namespace, d.trigger_name, d.name limit $1";

const FACTS: &str = "select d.phase, d.task_id, coalesce(d.restarts, 0) as restarts, d.definition,
        d.job_id as ran_job_id, d.job_revision as ran_revision,
        coalesce(t.status, 0) as status, t.outcome, t.policy, t.finished_at,
        coalesce(t.cancel_requested, false) as cancel_requested,
        (select i.started_at from sched_attempt i
            where i.task_id = d.task_id and i.created_at >= d.created_at order by i.fence desc limit 1) as started_at,
        s.id as schedule_id, s.spec, s.next_run_at, j.id as job_id, j.revision as job_revision, j.config
    from (select $1::text as namespace, $2::text as trigger_name, $3::text as name) p
    left join sched_daemon d on d.namespace = p.namespace and d.trigger_name = p.trigger_name and d.name = p.name
    left join sched_task t on t.id = d.task_id and t.created_at = d.created_at
    left join sched_trigger g on g.namespace = p.namespace and g.name = p.trigger_name
    left join sched_job j on j.namespace = g.namespace and j.name = g.job_name
    left join sched_schedule s on s.namespace = p.namespace and s.trigger_name = p.trigger_name and s.name = p.name
        and s.kind = 'daemon' and s.enabled and j.id is not null";

pub(super) async fn start(db: &Postgres, start: &DaemonStart) -> Result<Fired, StoreError> {
    // Before the transaction: what it stores of lanes may be rolled back with it.
    lanes::ids(&db.lanes, &mut *db.pool.acquire().await?, start.ingest.tasks.iter()).await?;
    let mut tx = db.begin().await?;
    let Some(place) = place(&mut tx, start.id).await? else { return Ok(Fired::Elsewhere) };
    lock(&mut tx, &place).await?;
    let facts = facts(&mut tx, &place).await?;
    let (Ok(restarts), Some(wanted)) = (facts.start(start), &facts.wanted) else {
        if facts.start(start) == Err(Obstacle::Run) {
            set_next(&mut tx, start.id, None).await?;
            tx.commit().await?;
        }
        return Ok(Fired::Elsewhere);
    };
    if !advance(&mut tx, start).await? {
        return Ok(Fired::Elsewhere);
    }
    insert_events(&mut tx, &db.lanes, std::slice::from_ref(&start.ingest), &[]).await?;
    for task in &start.ingest.tasks {
        keep(&mut tx, &place, start, task.id, restarts, wanted.job).await?;
    }
    tx.commit().await?;
    Ok(Fired::Stored)
}

async fn place(tx: &mut Tx, id: ScheduleId) -> Result<Option<DaemonPlace>, StoreError> {
    let row = sqlx::query("select namespace, trigger_name, name from sched_schedule where id = $1")
        .bind(id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| DaemonPlace::from_row(&row)).transpose()
}

/// What is read after it holds until the commit.
async fn lock(tx: &mut Tx, place: &DaemonPlace) -> Result<(), StoreError> {
    sqlx::query(
        "select 1 from sched_daemon where namespace = $1 and trigger_name = $2 and name = $3 for update",
    )
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn facts(connection: &mut PgConnection, place: &DaemonPlace) -> Result<Facts, StoreError> {
    let row = sqlx::query(FACTS)
        .bind(&place.namespace)
        .bind(&place.trigger)
        .bind(&place.name)
        .fetch_one(connection)
        .await?;
    Facts::from_row(&row)
}

/// False: another server was quicker. Before the first run there is no row of the daemon to lock, so that both wait here.
async fn advance(tx: &mut Tx, start: &DaemonStart) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "update sched_schedule set next_run_at = null, last_run_at = next_run_at
         where id = $1 and next_run_at = $2 and enabled",
    )
    .bind(start.id.uuid())
    .bind(time(start.run_at))
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() > 0)
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
        "insert into sched_daemon (namespace, trigger_name, name, phase, task_id, created_at, restarts, definition,
            job_id, job_revision) values ($1, $2, $3, 'running', $4, $5, $6, $7::text::json, $8, $9)
         on conflict (namespace, trigger_name, name) do update set phase = excluded.phase,
            task_id = excluded.task_id, created_at = excluded.created_at, restarts = excluded.restarts,
            definition = excluded.definition, job_id = excluded.job_id, job_revision = excluded.job_revision",
    )
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .bind(task_id.uuid())
    .bind(at(task_id.uuid()))
    .bind(i64::from(restarts))
    .bind(row::json(&start.definition)?)
    .bind(job.id.uuid())
    .bind(job.revision)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn tend(db: &Postgres, now: Timestamp) -> Result<Vec<Tended>, StoreError> {
    let rows = sqlx::query(UNSETTLED).bind(AT_ONCE).fetch_all(&db.pool).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut tended = Vec::new();
    let mut tx = db.begin().await?;
    for row in &rows {
        let place = DaemonPlace::from_row(row)?;
        lock(&mut tx, &place).await?;
        let step = facts(&mut tx, &place).await?.step(now);
        take(&mut tx, &place, step, now).await?;
        tended.extend(step.tending().map(|what| Tended { place, what }));
    }
    tx.commit().await?;
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
    sqlx::query("update sched_schedule set next_run_at = $1 where id = $2")
        .bind(next.map(time))
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
        "update sched_daemon set phase = $1, restarts = coalesce($2, restarts)
         where namespace = $3 and trigger_name = $4 and name = $5",
    )
    .bind(phase.name())
    .bind(restarts.map(i64::from))
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn run(tx: &mut Tx, place: &DaemonPlace, job: JobVersion) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_daemon set phase = 'running', job_id = $1, job_revision = $2
         where namespace = $3 and trigger_name = $4 and name = $5",
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
        "update sched_daemon set phase = 'stopping' where namespace = $1 and trigger_name = $2 and name = $3
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
    sqlx::query("delete from sched_daemon where namespace = $1 and trigger_name = $2 and name = $3")
        .bind(&place.namespace)
        .bind(&place.trigger)
        .bind(&place.name)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "update sched_schedule set next_run_at = $1 where namespace = $2 and trigger_name = $3 and name = $4
         and kind = 'daemon' and next_run_at is null",
    )
    .bind(time(now))
    .bind(&place.namespace)
    .bind(&place.trigger)
    .bind(&place.name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How it is, with the next time of that same moment.
pub(super) async fn show(db: &Postgres, planned: &mut PlannedSchedule) -> Result<(), StoreError> {
    let facts = facts(&mut *db.pool.acquire().await?, &planned.place()).await?;
    if let Some(wanted) = &facts.wanted {
        planned.schedule.next_run_at = wanted.next_run_at;
    }
    planned.daemon = facts.now();
    Ok(())
}

pub(super) async fn any(db: &Postgres) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar("select exists (select 1 from sched_daemon)").fetch_one(&db.pool).await?)
}

/// Whether the task may be run again: there is one run of a daemon at a time, so that only its last one may, and only
/// while no other is planned. Locks the daemon: nobody starts another one before the commit.
pub(in crate::postgres) async fn may_rerun(tx: &mut Tx, task_id: TaskId) -> Result<bool, StoreError> {
    let found = sqlx::query("select 1 from sched_daemon where task_id = $1 and phase <> 'armed' for update")
        .bind(task_id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}
