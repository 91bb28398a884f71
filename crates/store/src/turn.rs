//! What becomes of a fire while earlier runs of its schedule have not ended: the same pure rules in both dialects.

use hetuflow_core::{event::DecisionOutcome, id::TaskId, schedule::Overlap, status::Status};
use jiff::Timestamp;

use crate::{
    Ingest, StoreError,
    row::{self, Columns},
};

/// Runs of one schedule that wait for their turn, at most.
const MAX_QUEUED: usize = 1000;

/// One run that has its place among those of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) task_id: TaskId,
    pub(crate) run_at: Timestamp,
    pub(crate) queued: bool,
    /// `None`: the task is gone.
    status: Option<Status>,
}

/// Where a new run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Free,
    Queued,
}

/// What the rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Start,
    Queue,
    /// Cancel those ahead. It starts, or waits for those that are being ended.
    Replace,
    Skip {
        reason: String,
    },
}

impl Turn {
    /// Reads `task_id`, `run_at`, `queued` and the task's `status`, which is 0 where the task is gone.
    pub(crate) fn from_row(row: &impl Columns) -> Result<Self, StoreError> {
        let status = Status::from_number(row::number(row, "status")?);
        Ok(Self {
            task_id: TaskId::from_uuid(row.uuid("task_id")?),
            run_at: row.time("run_at")?,
            queued: row.flag("queued")?,
            status,
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_none_or(Status::is_final)
    }
}

/// `ahead` are the runs that have not ended, the earliest first.
pub(crate) fn place(overlap: Overlap, ahead: &[Turn]) -> Place {
    let Some(first) = ahead.first() else { return Place::Start };
    let queued = ahead.iter().filter(|turn| turn.queued).count();
    let skip = |reason: String| Place::Skip { reason };
    match overlap {
        Overlap::Allow => Place::Start,
        Overlap::Skip => skip(format!(
            "overlap = \"skip\": the run of {} (task {}) has not ended",
            first.run_at, first.task_id
        )),
        Overlap::QueueOne => match ahead.iter().find(|turn| turn.queued) {
            Some(waiting) => {
                skip(format!("overlap = \"queue_one\": the run of {} waits already", waiting.run_at))
            }
            None => Place::Queue,
        },
        Overlap::QueueAll if queued >= MAX_QUEUED => skip(format!("{queued} runs wait already")),
        Overlap::QueueAll => Place::Queue,
        Overlap::CancelOld => Place::Replace,
    }
}

/// The event of a fire that does not run after all.
pub(crate) fn skipped(ingest: &Ingest, reason: &str) -> Ingest {
    let mut skipped = Ingest { tasks: Vec::new(), ..ingest.clone() };
    "schedule.skipped".clone_into(&mut skipped.event.event_type);
    for decision in &mut skipped.event.decisions {
        decision.outcome = DecisionOutcome::Skipped;
        decision.reason = Some(reason.to_owned());
    }
    skipped
}

/// Later than any claim: the time of a queued task in the order of its lane.
pub(crate) fn beyond() -> Timestamp {
    Timestamp::from_second(253_370_764_800).unwrap_or(Timestamp::MAX)
}
