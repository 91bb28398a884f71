//! One actor per attempt: journalled, started, watched over, ended, reported through the table of
//! attempts. The link calls [`Runner::assign`], [`Runner::cancel`] and [`Runner::acknowledge`]; `run` calls
//! [`Runner::adopt`] for what an earlier life of the agent has left. Steps `agent: journal, fork,
//! stream` and `result` of the walk.

mod attempt;
mod orphan;

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_core::{
    Clock,
    id::InstanceId,
    protocol::{Assignment, ResultVerdict, RunResult},
    task::{Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::task::TaskTracker;

use crate::{
    attempts::{Attempts, Phase, Stop},
    config::Executor,
    journal::{Acceptance, Journal, JournalError},
    process::{Cgroups, Leaf},
    spool::Spools,
    workplace::Workplaces,
};

/// What every actor needs; cloned for each.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) journal: Journal,
    pub(crate) attempts: Attempts,
    pub(crate) spools: Spools,
    pub(crate) workplaces: Workplaces,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) clock: Clock,
    pub(crate) actors: TaskTracker,
}

/// The answer to an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in the journal: since now, or since the first time.
    Accepted,
    Refused(&'static str),
    /// This attempt, or a newer one of its task, has been here before.
    Stale,
}

type Stopped = watch::Receiver<Option<Stop>>;

impl Runner {
    /// Takes an attempt, at most once. `body` is what came of the event's body before the assignment.
    pub(crate) async fn assign(&self, assignment: Assignment, body: Bytes) -> Result<Answer, JournalError> {
        let lease = assignment.lease;
        if self.attempts.get(lease.instance_id).is_some_and(|held| held.lease == lease) {
            return Ok(Answer::Accepted);
        }
        if let Some(reason) = self.no_room(&assignment, &body) {
            self.journal.refuse(lease, self.clock.now()).await?;
            return Ok(Answer::Refused(reason));
        }
        let leaf = self.cgroups.as_ref().map(|cgroups| cgroups.leaf(lease.instance_id));
        let path = leaf.as_ref().map(Leaf::path);
        match self.journal.accept(&assignment, path, self.clock.now()).await? {
            Acceptance::Accepted => {
                let stopped = self.attempts.add(lease, Phase::Waiting, 0);
                self.actors.spawn(attempt::run(self.clone(), assignment, body, leaf, stopped));
                Ok(Answer::Accepted)
            }
            // The table mirrors the journal, so one that is held was answered above.
            Acceptance::Held | Acceptance::Stale => Ok(Answer::Stale),
        }
    }

    /// The process is asked to end; its result follows when it has.
    pub(crate) fn cancel(&self, lease: Lease) {
        if !self.attempts.stop(lease, Stop::Cancelled) {
            tracing::debug!(task.id = %lease.task_id, "asked to cancel an attempt that is not held");
        }
    }

    /// The attempt is not this agent's any more: its process ends, its result is forgotten.
    pub(crate) async fn abandon(&self, lease: Lease) {
        // In this order: the actor looks at the request after it has written the end, so one of the
        // two sees the other's word.
        if self.attempts.stop(lease, Stop::Fenced)
            && self.attempts.get(lease.instance_id).is_some_and(|attempt| !attempt.is_open())
        {
            self.forget_fenced(lease).await;
        }
    }

    /// The server has answered a result.
    pub(crate) async fn acknowledge(&self, lease: Lease, verdict: ResultVerdict) {
        let held = self.attempts.get(lease.instance_id).filter(|attempt| attempt.lease == lease);
        match (held, verdict) {
            (Some(attempt), ResultVerdict::Recorded) if !attempt.is_open() => {
                self.forget(lease.instance_id).await;
            }
            (Some(_), ResultVerdict::Fenced) => self.abandon(lease).await,
            (Some(_), ResultVerdict::Recorded) => {
                tracing::warn!(task.id = %lease.task_id, "the server acknowledged a result that was not sent");
            }
            (None, _) => {}
        }
    }

    fn no_room(&self, assignment: &Assignment, body: &Bytes) -> Option<&'static str> {
        if self.attempts.is_draining() {
            Some("the agent stops")
        } else if self.attempts.free() == 0 {
            Some("busy")
        } else if body.len() as u64 != assignment.event.body_size {
            Some("the event's body did not come whole")
        } else {
            None
        }
    }

    /// Durable first, then visible to the link.
    async fn end(&self, result: RunResult, stopped: &Stopped) {
        let lease = result.lease;
        let instance_id = lease.instance_id;
        tracing::info!(
            task.id = %result.lease.task_id, instance.id = %instance_id, status = %result.outcome.status(),
            "the attempt ended"
        );
        failpoint!("result.before_journal");
        while let Err(error) = self.journal.ended(&result).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the journal cannot take a result; trying on"
            );
            tokio::time::sleep(JOURNAL_PAUSE).await;
        }
        failpoint!("result.after_journal");
        self.attempts.set_phase(instance_id, Phase::Ended(Box::new(result)));
        if *stopped.borrow() == Some(Stop::Fenced) {
            self.forget_fenced(lease).await;
        }
    }

    async fn forget_fenced(&self, lease: Lease) {
        self.forget(lease.instance_id).await;
        tracing::warn!(
            task.id = %lease.task_id, instance.id = %lease.instance_id,
            "dropped the result of an attempt that is not this agent's any more"
        );
    }

    async fn forget(&self, instance_id: InstanceId) {
        failpoint!("forget.before");
        if let Err(error) = self.journal.forget(instance_id).await {
            // It is offered again after the next start, and acknowledged again.
            tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot forget an attempt");
        }
        failpoint!("forget.after");
        self.attempts.remove(instance_id);
        self.spools.remove(instance_id).await;
        let workplaces = self.workplaces.clone();
        let _ = spawn_blocking(move || workplaces.leave(instance_id)).await;
    }

    fn result(&self, lease: Lease, outcome: Outcome) -> RunResult {
        RunResult { lease, outcome, started_at: None, finished_at: self.clock.now(), output_dropped: 0 }
    }
}

const JOURNAL_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
