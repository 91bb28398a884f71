//! Daemons: what is kept of each, and what follows from it. The same pure rules in both dialects.
//!
//! A row of `sched_daemon` is the one truth about a daemon's run: unless its phase is `armed` or `stopped` no other run
//! starts. Whoever changes it locks it first, then reads what it decides by.

mod facts;
mod step;
#[cfg(test)]
mod tests;

use hetuflow_core::{
    id::{ScheduleId, TaskId},
    job::JobSpec,
    task::Outcome,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use facts::{Facts, JobVersion};
pub(crate) use step::{Obstacle, Step};

use crate::{Ingest, PlannedSchedule, StoreError, row::Columns};

/// A run of a daemon that is about to start.
#[derive(Debug, Clone)]
pub struct DaemonStart {
    pub id: ScheduleId,
    /// The time that it stands for; nothing happens unless it is still the schedule's next.
    pub run_at: Timestamp,
    /// What the run was planned with; nothing happens unless the job still says so.
    pub definition: JobSpec,
    pub ingest: Ingest,
}

/// What became of one daemon at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tended {
    pub place: DaemonPlace,
    pub what: Tending,
}

/// What a daemon is called over all versions of its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonPlace {
    pub namespace: String,
    pub trigger: String,
    /// `daemon 1`
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tending {
    /// Its run ended, or its job is another one by now: it starts then.
    Starts { at: Timestamp, restarts: u32 },
    /// Its run is asked to end, or never starts: nobody wants it any more as it is.
    Ends,
    /// Its run ended, and nothing follows by itself.
    Stopped,
    /// Its run may still be there: a person decides.
    Held,
    /// Its schedule is gone, and so is its run.
    Forgotten,
}

/// How a daemon is, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonNow {
    pub state: DaemonState,
    /// Its run, or its last one.
    pub task_id: TaskId,
    /// When the process of that run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Restarts since a run last lasted long enough.
    pub restarts: u32,
    /// How its last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// Its run waits for an agent, or is on its way.
    Starting,
    Running,
    /// Its run was asked to end.
    Stopping,
    /// It starts at the schedule's next time.
    Restarting,
    /// Nothing follows by itself.
    Stopped,
    /// Nobody knows whether its run is still there.
    Held,
}

/// `sched_daemon.phase`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No run; its schedule has a next time.
    Armed,
    /// Its run waits or runs, or nobody has seen yet that it ended.
    Running,
    /// Its run was asked to end, to be replaced or because nobody wants it.
    Stopping,
    Stopped,
    Held,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] = [Self::Armed, Self::Running, Self::Stopping, Self::Stopped, Self::Held];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Held => "held",
        }
    }
}

impl PlannedSchedule {
    pub(crate) fn place(&self) -> DaemonPlace {
        let (trigger, name) = (self.trigger.clone(), self.schedule.name.clone());
        DaemonPlace { namespace: self.namespace.to_string(), trigger, name }
    }
}

impl DaemonPlace {
    pub(crate) fn from_row(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self {
            namespace: row.text("namespace")?,
            trigger: row.text("trigger_name")?,
            name: row.text("name")?,
        })
    }
}
