//! A task is one planned execution, a task instance one attempt of it on one agent. A failed
//! attempt is not an error of hetuflow: it is an [`Outcome`] with a reason that retry rules read.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::{AgentId, EventId, InstanceId, JobId, Namespace, ScheduleId, TaskId},
    job::Command,
    labels::Lane,
    outputs::Outputs,
    retry::RetryPolicy,
    status::Status,
};

/// A task that is about to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    pub id: TaskId,
    pub namespace: Namespace,
    pub trigger: String,
    pub job_id: JobId,
    pub schedule_id: Option<ScheduleId>,
    pub event_id: EventId,
    /// Not before this time.
    pub run_at: Timestamp,
    pub priority: i16,
    pub lane: Lane,
    pub policy: RetryPolicy,
    /// What to run, or why that could not be said (a template of the job found no value).
    pub command: Result<Command, String>,
    pub telling: Telling,
}

/// Which of the ends of a task become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Telling {
    #[default]
    Nothing,
    /// Every end but a success: whoever only raises alarms costs nothing where all goes well.
    Trouble,
    Everything,
}

impl Telling {
    /// As `sched_task.telling` has it; negative once the end was told.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Nothing => 0,
            Self::Everything => 1,
            Self::Trouble => 2,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub namespace: Namespace,
    pub trigger: String,
    pub job_id: JobId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<ScheduleId>,
    pub event_id: EventId,
    pub status: Status,
    /// How the last attempt ended, once one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    pub created_at: Timestamp,
    #[serde(rename = "scheduled_at")]
    pub run_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    pub priority: i16,
    pub lane: Lane,
    pub policy: RetryPolicy,
    /// Attempts so far.
    pub attempt: u32,
    /// The number of the last lease; it only grows.
    pub fence: i64,
    /// Somebody asked for its end while an agent held it.
    pub cancel_requested: bool,
    /// It waits for an earlier run of its schedule to end.
    #[serde(default)]
    pub queued: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskInstance {
    pub id: InstanceId,
    pub task_id: TaskId,
    pub job_id: JobId,
    pub agent_id: AgentId,
    /// Counted from 1.
    pub attempt: u32,
    pub fence: i64,
    pub status: Status,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Bytes of output that came after `max_output_size` and were dropped.
    #[serde(default)]
    pub output_dropped: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub reason: EndReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// One sentence for a person: `killed after its timeout of 5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the process wrote to the file that `HETUFLOW_OUTPUT` names.
    #[serde(default, skip_serializing_if = "Outputs::is_empty")]
    pub outputs: Outputs,
    /// Of what is lost: its agent has seen to it that no process of it is left. Nobody knows how it ended, but it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// Why an attempt ended: a closed list, because users write retry rules on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The process ended by itself; `exit_code` says how.
    Exit,
    /// A signal that hetuflow did not send ended it.
    Signal,
    /// Its `timeout` passed and it was killed.
    Timeout,
    /// Nobody can say how it ended.
    Lost,
    /// Somebody asked for its end.
    Cancelled,
    /// A template of the job could not be filled; nothing was started.
    Render,
    /// The process could not be started.
    Spawn,
}

impl EndReason {
    pub const ALL: [Self; 7] =
        [Self::Exit, Self::Signal, Self::Timeout, Self::Lost, Self::Cancelled, Self::Render, Self::Spawn];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Render => "render",
            Self::Spawn => "spawn",
        }
    }
}

/// The text is no reason of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a reason; one of exit, signal, timeout, lost, cancelled, render, spawn")]
pub struct UnknownReason(pub String);

impl FromStr for EndReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.name() == text)
            .ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

impl Outcome {
    #[must_use]
    pub const fn exit(code: i32) -> Self {
        Self {
            reason: EndReason::Exit,
            exit_code: Some(code),
            signal: None,
            message: None,
            outputs: Outputs::new(),
            gone: false,
        }
    }

    #[must_use]
    pub fn because(reason: EndReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            exit_code: None,
            signal: None,
            message: Some(message.into()),
            outputs: Outputs::new(),
            gone: false,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match self.reason {
            EndReason::Exit if self.exit_code == Some(0) => Status::Succeeded,
            EndReason::Exit | EndReason::Signal | EndReason::Render | EndReason::Spawn => Status::Failed,
            EndReason::Timeout => Status::TimedOut,
            EndReason::Lost => Status::Lost,
            EndReason::Cancelled => Status::Cancelled,
        }
    }
}

impl Task {
    /// Its fate is unknown, and a person decides.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.status == Status::Lost && self.outcome.as_ref().is_some_and(|outcome| self.policy.holds(outcome))
    }
}

/// The right of one agent session to run one attempt. Every report about the attempt must show it;
/// the store refuses a report whose `fence` is not the task's newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub task_id: TaskId,
    pub instance_id: InstanceId,
    pub fence: i64,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One piece of an attempt's output. `seq` counts the pieces of both streams from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    pub instance_id: InstanceId,
    pub seq: u64,
    pub stream: Stream,
    pub data: bytes::Bytes,
}
