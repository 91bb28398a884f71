//! What the database knows of one daemon: its run, and what is wanted.

use hetuflow_core::{
    id::{JobId, ScheduleId, TaskId},
    job::JobSpec,
    retry::RetryPolicy,
    schedule::DaemonRule,
    status::Status,
    task::Outcome,
};
use jiff::Timestamp;

use super::{DaemonNow, DaemonState, Phase};
use crate::{
    StoreError,
    row::{self, Columns, corrupt},
};

#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// `None` until its first run.
    pub(crate) kept: Option<Kept>,
    /// Its schedule, with the job as it is now; `None`: nobody wants it to run.
    pub(crate) wanted: Option<Wanted>,
}

#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) phase: Phase,
    pub(crate) task_id: TaskId,
    pub(crate) restarts: u32,
    /// `None`: what an other version wrote.
    pub(crate) definition: Option<JobSpec>,
    pub(crate) job: JobVersion,
    /// `None`: retention has dropped it.
    pub(crate) run: Option<Run>,
}

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) status: Status,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) policy: RetryPolicy,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) cancel_requested: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) schedule_id: ScheduleId,
    pub(crate) next_run_at: Option<Timestamp>,
    pub(crate) job: JobVersion,
    pub(crate) definition: JobSpec,
    pub(crate) rule: DaemonRule,
}

/// A cheap way to see that a job may say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobVersion {
    pub(crate) id: JobId,
    pub(crate) revision: i64,
}

impl Kept {
    pub(crate) fn live(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !run.status.is_final())
    }

    pub(crate) fn says_the_same_as(&self, wanted: &Wanted) -> bool {
        self.job == wanted.job || self.definition.as_ref() == Some(&wanted.definition)
    }
}

impl Facts {
    /// The columns of the dialects' `FACTS`.
    pub(crate) fn from_row(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self { kept: kept(row)?, wanted: wanted(row)? })
    }

    pub(crate) fn now(&self) -> Option<DaemonNow> {
        let kept = self.kept.as_ref()?;
        let state = match (kept.phase, kept.live()) {
            (Phase::Armed, _) => DaemonState::Restarting,
            (Phase::Stopping, _) => DaemonState::Stopping,
            (_, Some(run)) if run.cancel_requested => DaemonState::Stopping,
            (_, Some(run)) if run.status == Status::Running => DaemonState::Running,
            (_, Some(_)) | (Phase::Running, None) => DaemonState::Starting,
            (Phase::Stopped, None) => DaemonState::Stopped,
            (Phase::Held, None) => DaemonState::Held,
        };
        let run = kept.run.as_ref();
        Some(DaemonNow {
            state,
            task_id: kept.task_id,
            started_at: run.and_then(|run| run.started_at),
            restarts: kept.restarts,
            outcome: run.and_then(|run| run.outcome.clone()),
        })
    }
}

fn kept(row: &impl Columns) -> Result<Option<Kept>, StoreError> {
    let Some(phase) = row.text_or_null("phase")? else { return Ok(None) };
    let found = Phase::ALL.into_iter().find(|one| one.name() == phase);
    let job =
        JobVersion { id: JobId::from_uuid(row.uuid("ran_job_id")?), revision: row.int("ran_revision")? };
    Ok(Some(Kept {
        phase: found.ok_or_else(|| corrupt("phase", phase))?,
        task_id: TaskId::from_uuid(row.uuid("task_id")?),
        restarts: row::number(row, "restarts")?,
        definition: row.json("definition").ok(),
        job,
        run: run(row)?,
    }))
}

fn run(row: &impl Columns) -> Result<Option<Run>, StoreError> {
    // 0 where the task is gone.
    let Some(status) = Status::from_number(row::number(row, "status")?) else { return Ok(None) };
    Ok(Some(Run {
        status,
        outcome: row.json_or_null("outcome")?,
        policy: row.json("policy")?,
        started_at: row.time_or_null("started_at")?,
        finished_at: row.time_or_null("finished_at")?,
        cancel_requested: row.flag("cancel_requested")?,
    }))
}

fn wanted(row: &impl Columns) -> Result<Option<Wanted>, StoreError> {
    let Some(schedule_id) = row.uuid_or_null("schedule_id")? else { return Ok(None) };
    let job = JobVersion { id: JobId::from_uuid(row.uuid("job_id")?), revision: row.int("job_revision")? };
    Ok(Some(Wanted {
        schedule_id: ScheduleId::from_uuid(schedule_id),
        next_run_at: row.time_or_null("next_run_at")?,
        job,
        definition: row.json("config")?,
        rule: row.json("spec")?,
    }))
}
