//! Tasks and their attempts: claimed once, reported on by the holder of the lease only.
//!
//! Every claim makes a task instance and raises the task's `fence` by one. Whoever reports on an
//! attempt shows its [`Lease`]; a report whose fence is not the newest, or whose attempt has ended,
//! changes nothing and is answered [`Report::Fenced`].

use async_trait::async_trait;
use hetuflow_core::{
    id::{AgentId, EventId, InstanceId, JobId, Namespace, TaskId},
    labels::Lane,
    retry::OnLost,
    status::Status,
    task::{EndReason, Lease, Outcome, OutputChunk, Task, TaskInstance},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Page, StoreError};

/// The number under which the store keeps a [`Lane`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub i64);

/// A lane in which at least one task waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingLane {
    pub id: LaneId,
    pub lane: Lane,
    /// Of all its tasks.
    pub priority: i16,
    /// When the first of them may run.
    pub next_at: Timestamp,
}

/// A place in the order of a lane before which nothing waits, as far as the caller knows. Who claims from there on
/// need not walk over the entries of all that was claimed before, which are still in the index while an old snapshot
/// is in use. What comes to lie before it (a task given back, a clock that is behind) is found by looking from
/// the beginning, which the caller does now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowWater {
    pub run_at: Timestamp,
    pub id: TaskId,
}

impl LowWater {
    /// Before everything.
    pub const START: Self = Self { run_at: Timestamp::UNIX_EPOCH, id: TaskId::from_uuid(Uuid::nil()) };

    /// Before everything that may run from `run_at` on.
    #[must_use]
    pub const fn at(run_at: Timestamp) -> Self {
        Self { run_at, ..Self::START }
    }
}

/// Which tasks [`TaskStore::backlog`] counts.
#[derive(Debug, Clone, Copy)]
pub struct Backlog<'a> {
    pub namespace: &'a Namespace,
    pub trigger: &'a str,
    /// Those that belong to this machine; without it, those that belong to none.
    pub agent: Option<&'a AgentId>,
    /// More than that need not be counted.
    pub most: u64,
}

impl Backlog<'_> {
    /// Waiting tasks of all triggers that one count looks at.
    pub(crate) const LOOK_AT: i64 = 200_000;

    pub(crate) fn most(&self) -> i64 {
        i64::try_from(self.most).unwrap_or(i64::MAX)
    }
}

/// One free place on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub agent_id: AgentId,
    /// The session that the claiming server holds. A slot whose session has moved on takes nothing.
    pub session_epoch: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    pub lease: Lease,
    pub agent_id: AgentId,
    pub session_epoch: i64,
    /// With its command; `attempt` counts this attempt.
    pub task: Task,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub lease: Lease,
    /// When its process began; `None`: the agent has journalled it.
    pub started_at: Option<Timestamp>,
}

/// The end of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    pub lease: Lease,
    pub outcome: Outcome,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub output_dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Recorded,
    /// The lease is not the newest any more, or the attempt had ended.
    Fenced,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// No agent had it; it is cancelled.
    Now,
    /// An agent holds it and must be told; the mark is stored.
    Asked { agent_id: AgentId, lease: Lease },
}

#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    pub namespace: Option<Namespace>,
    pub trigger: Option<String>,
    pub job_id: Option<JobId>,
    /// The name of the job.
    pub job: Option<String>,
    pub event_id: Option<EventId>,
    /// Empty: any.
    pub status: Vec<Status>,
    /// Why the last attempt ended. Empty: any.
    pub reason: Vec<EndReason>,
    /// What the task's policy says about lost attempts. Runs of daemons of which an agent says that they are gone are
    /// not among these: they need no decision.
    pub on_lost: Option<OnLost>,
    /// Created then or later.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

/// The ends that somebody has to look at; an index of their own finds them.
pub(crate) const DEAD: [Status; 3] = [Status::Failed, Status::TimedOut, Status::Lost];

/// An outcome is compared as it was written, `gone` last: PostgreSQL cannot take every outcome apart.
pub(crate) const SETTLED_DAEMON: &str = " and not (t.policy ->> 'daemon' is not null and coalesce(cast(t.outcome as text), '') like '%\"gone\":true}')";

/// A stretch of a walk over all tasks of a filter, from the oldest to the newest.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Only tasks younger than this one.
    pub after: Option<TaskId>,
    /// At most this many, up to 500.
    pub limit: u32,
}

impl Stretch {
    pub(crate) fn rows(self) -> u32 {
        self.limit.clamp(1, 500)
    }

    /// Where to go on after a stretch that found `count` tasks, the last of them `last`.
    pub(crate) fn next(self, count: usize, last: Option<TaskId>) -> Option<TaskId> {
        last.filter(|_| count as u64 == u64::from(self.rows()))
    }
}

/// What [`TaskStore::retry_all`] did in one stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retried {
    pub retried: u64,
    /// Tasks without a command, which cannot run, and runs of daemons, of which there is one at a time.
    pub skipped: u64,
    /// Where the next stretch goes on; `None` when there is none.
    pub next: Option<TaskId>,
}

/// What [`TaskStore::cancel_all`] did in one stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CancelledAll {
    /// They waited, and will never start.
    pub cancelled: u64,
    /// An agent holds them and is asked to end them.
    pub asked: u64,
    /// Where the next stretch goes on; `None` when there is none.
    pub next: Option<TaskId>,
}

/// The end of a task that is to become an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Without its command.
    pub task: Task,
    /// The name of its job.
    pub job: String,
}

#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    pub task_id: Option<TaskId>,
    pub job_id: Option<JobId>,
    pub agent_id: Option<AgentId>,
    /// Empty: any.
    pub status: Vec<Status>,
}

#[async_trait]
pub trait TaskStore: Send + Sync {
    /// The lanes with a task that waits, highest priority first. Lanes in `from` are looked at from there on.
    async fn waiting_lanes(&self, from: &[(LaneId, LowWater)]) -> Result<Vec<WaitingLane>, StoreError>;

    /// How many tasks of a trigger wait, due or for a later time, up to `most`. Looks at no more than the first 200,000
    /// that wait in the lanes in question, so that it is cheap whatever others have waiting; then it may be too few.
    async fn backlog(&self, backlog: Backlog<'_>) -> Result<u64, StoreError>;

    /// Takes the first due tasks of the lane from `from` on, by `run_at` and id, one for each slot in order, and
    /// leases them: status `locked`, a new instance, the fence raised. No task is taken twice, by however many
    /// servers; a slot whose agent session is not the stored one takes none.
    async fn claim(
        &self,
        lane: LaneId,
        from: LowWater,
        slots: &[Slot],
        now: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// How far attempts have come: `dispatched`, or `running`, also straight from `locked`. One that has come
    /// further already stays there. Yields one report for each; a lease is in a batch once.
    async fn progress(&self, batch: &[Progress]) -> Result<Vec<Report>, StoreError>;

    /// The attempt never began (the agent refused it, or it could not be sent): the instance goes, the
    /// task waits again as before, the attempt is not counted; the fence stays raised. One whose cancellation
    /// was asked for is cancelled instead. An attempt that has started cannot be given back: `Fenced`.
    async fn give_back(&self, lease: Lease, now: Timestamp) -> Result<Report, StoreError>;

    /// Ends attempts. For each, the task's own retry policy decides between `waiting_retry` and the
    /// outcome's final status (`RetryPolicy::next` with the task's attempt, `now` and `random`); one whose
    /// cancellation was asked for is not retried. Ending the same attempt again with the same lease
    /// yields `Recorded` and changes nothing, because the first answer may have been lost; but a result for an
    /// attempt that has been declared lost meanwhile is `Fenced`.
    async fn finish(&self, batch: &[Finish], now: Timestamp, random: f64) -> Result<Vec<Report>, StoreError>;

    /// Cancels a task that waits, or marks one that is held. One that is dead is given up: its outcome and its end stay as they
    /// were. `Conflict` when it has succeeded or is cancelled, and for a dead run of a daemon.
    async fn cancel(&self, task_id: TaskId, now: Timestamp) -> Result<Cancelled, StoreError>;

    /// Makes an ended task pending once more, due at `now`; attempts are counted on, its outcome is that of its
    /// next attempt. `Conflict` when it has not ended, has no command, or is a run of a daemon that has another one by
    /// now or is about to.
    async fn retry(&self, task_id: TaskId, now: Timestamp) -> Result<(), StoreError>;

    /// [`retry`](Self::retry) for the ended tasks of the filter in one stretch, all in one transaction. A task that
    /// runs again is not ended any more, so that a stretch which is repeated changes nothing twice.
    async fn retry_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<Retried, StoreError>;

    /// [`cancel`](Self::cancel) for the tasks of the filter that have not ended, likewise. Those whose end was asked
    /// for before are not counted again.
    async fn cancel_all(
        &self,
        filter: &TaskFilter,
        stretch: Stretch,
        now: Timestamp,
    ) -> Result<CancelledAll, StoreError>;

    /// Ends of tasks that are to be told (`Telling`) and have not been, the first ends first, at most `limit`. Nothing
    /// is told twice by one server at a time; a second one finds its events there already.
    async fn untold_ends(&self, limit: u32) -> Result<Vec<Ended>, StoreError>;

    /// These ends have become events, or nobody asks for them: each a task and when it had ended. One that was retried
    /// meanwhile will have another end.
    async fn note_told(&self, ends: &[(TaskId, Timestamp)]) -> Result<(), StoreError>;

    /// Tasks of agents connected to any server whose cancellation was asked for and that have not ended.
    async fn cancel_requests(&self) -> Result<Vec<(AgentId, Lease)>, StoreError>;

    /// The task with its command.
    async fn task(&self, id: TaskId) -> Result<Task, StoreError>;

    /// How many tasks the filter lets through; counting stops at `at_most`.
    async fn count_tasks(&self, filter: &TaskFilter, at_most: u64) -> Result<u64, StoreError>;

    /// Newest first, commands left out.
    async fn tasks(&self, filter: &TaskFilter, page: Page) -> Result<Vec<Task>, StoreError>;

    async fn instance(&self, id: InstanceId) -> Result<TaskInstance, StoreError>;

    /// Newest first.
    async fn instances(&self, filter: &InstanceFilter, page: Page) -> Result<Vec<TaskInstance>, StoreError>;

    /// Stores pieces of output. A piece that is there already is left as it is. Nobody asks whether the attempt exists
    /// (any more): retention drops what is too old, whosesoever it is.
    async fn append_output(&self, chunks: &[OutputChunk]) -> Result<(), StoreError>;

    /// Pieces from `from_seq` on, in order, at most `limit`.
    async fn output(
        &self,
        instance_id: InstanceId,
        from_seq: u64,
        limit: u32,
    ) -> Result<Vec<OutputChunk>, StoreError>;
}
