//! Trigger definitions as revisions with an owner, and the jobs and schedules that they declare.

use async_trait::async_trait;
use hetuflow_core::{
    id::{JobId, Namespace, ScheduleId},
    job::{Job, JobSpec},
    schedule::ScheduleKind,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A definition that parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTrigger {
    pub namespace: Namespace,
    pub name: String,
    /// The file it came from, for messages.
    pub origin: String,
    /// The whole text of that file: what is parsed again at the next start.
    pub text: String,
    pub description: String,
    /// The job that it declares; `None` when it names one that exists.
    pub job: Option<JobSpec>,
    pub job_name: String,
    pub schedules: Vec<NewSchedule>,
}

/// One `[on.*]` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSchedule {
    pub kind: ScheduleKind,
    /// `cron 1`, `interval 1`, `webhook 1`: stable while the entry keeps its place in the file.
    pub name: String,
    /// What it says, as JSON, for the API; a change makes it a new schedule in time.
    pub spec: serde_json::Value,
    /// The moment from which it counts: the anchor of an interval. Kept likewise.
    pub created_at: Timestamp,
    /// The first fire, for those that a clock drives. Kept from before when `spec` has not changed.
    pub next_run_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "almost every change is a put")]
pub enum TriggerChange {
    Put(NewTrigger),
    /// The file does not parse now: its last good version stays in force, with this note.
    Broken {
        namespace: Namespace,
        name: String,
        origin: String,
        problem: String,
    },
    Remove {
        namespace: Namespace,
        name: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredTrigger {
    pub namespace: Namespace,
    pub name: String,
    /// Who may change it: `folder` (a server that loads a directory) or `api`.
    pub owner: String,
    pub origin: String,
    /// Grows with every change of the text; 0 while no version ever parsed.
    pub revision: i64,
    /// Empty while no version ever parsed.
    #[serde(skip)]
    pub text: String,
    pub description: String,
    /// Why the newest text is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    pub schedules: Vec<StoredSchedule>,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSchedule {
    pub id: ScheduleId,
    pub kind: ScheduleKind,
    pub name: String,
    pub spec: serde_json::Value,
    /// The anchor of an interval: when this schedule was made.
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<Timestamp>,
}

/// Versions of one trigger that are kept.
pub(crate) const KEPT: i64 = 100;

/// One version of a trigger: what decided about events of its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub revision: i64,
    pub origin: String,
    pub text: String,
    pub created_at: Timestamp,
}

#[async_trait]
pub trait TriggerStore: Send + Sync {
    /// Applies all changes in one transaction, raises the generation when anything differed, and yields it. A put
    /// whose text equals the stored one only clears a problem note. The job keeps its id while its name stays,
    /// also when its trigger goes; a schedule keeps its id, times and anchor while its name and spec stay.
    /// Removing a trigger removes its schedules; tasks that wait stay and run. `Conflict` when a trigger belongs
    /// to another owner.
    async fn apply_triggers(
        &self,
        owner: &str,
        changes: &[TriggerChange],
        now: Timestamp,
    ) -> Result<i64, StoreError>;

    /// All triggers, by namespace and name. One whose job does not exist (yet) has no `job_id` and says so as its
    /// problem; its schedules are not due.
    async fn triggers(&self) -> Result<Vec<StoredTrigger>, StoreError>;

    /// A version of a trigger, in force or not, also of one that was removed: the last 100 of each are kept. A trigger
    /// that comes back goes on counting.
    async fn trigger_revision(
        &self,
        namespace: &Namespace,
        name: &str,
        revision: i64,
    ) -> Result<Revision, StoreError>;

    /// Grows with every change; servers poll it to notice what another one applied.
    async fn trigger_generation(&self) -> Result<i64, StoreError>;

    async fn job(&self, id: JobId) -> Result<Job, StoreError>;

    async fn job_named(&self, namespace: &Namespace, name: &str) -> Result<Job, StoreError>;

    async fn jobs(&self) -> Result<Vec<Job>, StoreError>;
}
