//! Schedules that a clock drives: each fire happens once, whoever is quicker. And daemons: one run of each at a time.

use async_trait::async_trait;
use hetuflow_core::{
    id::{Namespace, ScheduleId, TaskId},
    schedule::Overlap,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DaemonNow, DaemonStart, Ingest, Page, StoreError, StoredSchedule, Tended};

/// A schedule whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: ScheduleId,
    pub run_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Fire {
    pub id: ScheduleId,
    /// The time that this fire stands for; nothing happens unless it is still the schedule's next.
    pub run_at: Timestamp,
    /// The schedule's next time; `None` ends it.
    pub next: Option<Timestamp>,
    /// The event and its tasks: none where the time is skipped, which the event then says. `None` only moves the
    /// schedule on.
    pub ingest: Option<Ingest>,
    /// `None`: its runs may overlap.
    pub turns: Option<Turns>,
}

impl Fire {
    /// Whether it is known to run: with `turns` that is decided later.
    pub(crate) fn runs(&self) -> bool {
        self.turns.is_none() && self.ingest.as_ref().is_some_and(|ingest| !ingest.tasks.is_empty())
    }
}

/// The rule for runs that would overlap, for a fire whose schedule has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// Whose runs: the same over all versions of a schedule.
    pub key: String,
    pub overlap: Overlap,
}

/// A run that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    pub task_id: TaskId,
    /// The time that it stands for.
    pub run_at: Timestamp,
}

/// What is left after queued runs were let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Runs that may be claimed from now on.
    pub released: usize,
    /// Whether others wait on.
    pub queue: Queue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Empty,
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    Stored,
    /// An earlier run has not ended, and this one does not run: its event, which says so, is stored without tasks.
    Overlaps,
    /// Another server was quicker, or the schedule was edited meanwhile.
    Elsewhere,
}

/// A schedule with the trigger that declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedSchedule {
    pub namespace: Namespace,
    pub trigger: String,
    #[serde(flatten)]
    pub schedule: StoredSchedule,
    /// How it is now, for a daemon that has run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonNow>,
}

#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    pub id: Option<ScheduleId>,
    pub namespace: Option<Namespace>,
    pub trigger: Option<String>,
}

#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// Enabled schedules whose next time is not after `now`, oldest first.
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError>;

    /// Schedules that a clock drives, and daemons, newest first.
    async fn schedules(
        &self,
        filter: &ScheduleFilter,
        page: Page,
    ) -> Result<Vec<PlannedSchedule>, StoreError>;

    /// The earliest next time of all schedules.
    async fn next_fire(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Moves each schedule to its next time and stores the event with its tasks, only if `run_at` is still its next
    /// time; all in one transaction. A (schedule, time) pair is fired once for ever. Yields one answer for each, in
    /// order.
    ///
    /// With `turns`, and while runs with the same key have not ended: by its rule the fire becomes an event without
    /// tasks, or its task is `queued` (no claim takes it), or the earlier ones are cancelled first: those that wait at
    /// once, of the others the end is asked for. This is decided in the same transaction, so that no two servers
    /// decide differently.
    async fn fire(&self, batch: &[Fire]) -> Result<Vec<Fired>, StoreError>;

    /// Lets the first queued run go of every key whose earlier runs have ended: it may be claimed from `now` on.
    async fn pass_turns(&self, now: Timestamp) -> Result<Passed, StoreError>;

    /// The run that a queued task waits for: the earliest that has not ended.
    async fn ahead(&self, task_id: TaskId) -> Result<Option<Ahead>, StoreError>;

    /// Starts the next run of a daemon: moves its schedule to no next time, stores the event with its task, and
    /// remembers that task as the daemon's run; all in one transaction. Only if `run_at` is still the schedule's next
    /// time and the job is still as it was when the run was planned. While another run of the same daemon has not
    /// ended, or may not have, nothing starts, and its end decides when something does: there is never a second one,
    /// whatever happened to schedule and trigger meanwhile.
    async fn start_daemon(&self, start: &DaemonStart) -> Result<Fired, StoreError>;

    /// Looks after the runs of daemons, as many as one transaction takes; yields what became of them, nothing once all
    /// is as it shall be. What a run that ended is followed by is said by its schedule's rule: the schedule gets its
    /// next time, or none. A run whose job says something else by now, or whose schedule is gone, is ended as
    /// [`cancel`](crate::TaskStore::cancel) does; what is wanted instead may start once it has ended. One that was lost,
    /// may still run, and holds (`on_lost`) is followed by nothing until somebody runs it again. Every server may call it.
    async fn tend_daemons(&self, now: Timestamp) -> Result<Vec<Tended>, StoreError>;

    /// Whether there is any daemon to look after.
    async fn has_daemons(&self) -> Result<bool, StoreError>;

    /// Forgets runs that have ended and that nobody waits for; at most `limit`.
    async fn forget_turns(&self, limit: u32) -> Result<u64, StoreError>;
}
