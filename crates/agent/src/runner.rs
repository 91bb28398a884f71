//! One actor per attempt: journalled, started, watched over, ended, reported through the table of
//! attempts. The link calls [`Runner::assign`], [`Runner::cancel`] and [`Runner::acknowledge`]; `run` calls
//! [`Runner::adopt`] for what an earlier life of the agent has left. Steps `agent: journal, fork,
//! stream` and `result` of the walk.

mod attempt;
mod orphan;
mod start;

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_core::{
    Clock,
    id::InstanceId,
    protocol::{Assignment, FromAgent, ResultVerdict, RunResult},
    status::Status,
    task::{Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::{
    attempts::{Attempts, Phase, Stop},
    config::Executor,
    journal::{Acceptance, Journal, JournalError},
    process::Spawner,
    spool::Spools,
    workplace::Workplaces,
};
pub(crate) use start::MOST_HANGING;
use start::Start;

/// What every actor needs; cloned for each.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) journal: Journal,
    pub(crate) attempts: Attempts,
    pub(crate) spools: Spools,
    pub(crate) workplaces: Workplaces,
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) clock: Clock,
    pub(crate) actors: TaskTracker,
    /// Room for starts that were given up and still hang.
    pub(crate) hanging: Arc<Semaphore>,
}

/// To the connection on which an attempt was assigned: that it was not taken, or that the journal failed.
pub(crate) type Answers = mpsc::Sender<Result<FromAgent, JournalError>>;

type Stopped = watch::Receiver<Option<Stop>>;

impl Runner {
    /// Takes an attempt, at most once. `body` is what came of the event's body before the assignment. An attempt that
    /// is taken shows in the table; what became of one that is not goes to `answers`.
    pub(crate) fn assign(&self, assignment: Assignment, body: Bytes, answers: Answers) {
        let lease = assignment.lease;
        if let Some(held) = self.attempts.get(lease.instance_id) {
            if held.lease != lease {
                self.actors.spawn(async move { answers.send(Ok(FromAgent::Stale { lease })).await });
            }
            return;
        }
        if let Some(reason) = self.no_room(&assignment, &body) {
            self.actors.spawn(self.clone().refuse(lease, reason, answers));
            return;
        }
        let stopped = self.attempts.add(lease, Phase::Arriving, 0);
        self.actors.spawn(self.clone().take(assignment, body, stopped, answers));
    }

    async fn refuse(self, lease: Lease, reason: &'static str, answers: Answers) {
        let refused = self.journal.refuse(lease, self.clock.now()).await;
        let answer = refused.map(|()| FromAgent::Refused { lease, reason: reason.to_owned() });
        // Without a connection there is nobody to tell: the next hello does not name the attempt.
        let _ = answers.send(answer).await;
    }

    async fn take(self, assignment: Assignment, body: Bytes, stopped: Stopped, answers: Answers) {
        let lease = assignment.lease;
        let leaf = self.spawner.leaf(&assignment);
        let path = leaf.as_ref().map(|leaf| leaf.path().to_owned());
        // While the journal writes, all is made that the process will need.
        let start = Start::prepare(&self, assignment, body, leaf);
        failpoint!("assign.before");
        let accepted = self.journal.accept(lease, path.as_deref(), self.clock.now()).await;
        failpoint!("assign.after");
        tracing::debug!(task.id = %lease.task_id, instance.id = %lease.instance_id, ?accepted, "assigned");
        let answer = match accepted {
            Ok(Acceptance::Accepted) => {
                self.attempts.set_phase(lease.instance_id, Phase::Waiting);
                return attempt::run(self, start, stopped).await;
            }
            Ok(Acceptance::Stale) => Ok(FromAgent::Stale { lease }),
            Err(error) => Err(error),
        };
        self.attempts.remove(lease.instance_id);
        start.drop_it(&self, None).await;
        self.vacate(lease.instance_id);
        let _ = answers.send(answer).await;
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

    /// The server's commit makes it durable, or the journal's, whichever comes first.
    async fn end(&self, result: RunResult, stopped: &Stopped) {
        let lease = result.lease;
        let instance_id = lease.instance_id;
        log_end(&result);
        failpoint!("result.before_journal");
        self.journal.ended(&result).await;
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
        self.journal.forget(instance_id).await;
        failpoint!("forget.after");
        let Some(attempt) = self.attempts.remove(instance_id) else { return };
        if attempt.pieces > 0 {
            self.spools.remove(instance_id).await;
        }
        self.vacate(instance_id);
    }

    fn vacate(&self, instance_id: InstanceId) {
        if let Some(leaving) = self.workplaces.leave(instance_id) {
            self.actors.spawn_blocking(|| leaving.remove());
        }
    }

    fn result(&self, lease: Lease, outcome: Outcome) -> RunResult {
        RunResult { lease, outcome, started_at: None, finished_at: self.clock.now(), output_dropped: 0 }
    }
}

/// What went well is in the server's history.
fn log_end(result: &RunResult) {
    let (lease, status) = (result.lease, result.outcome.status());
    if status == Status::Succeeded {
        tracing::debug!(task.id = %lease.task_id, instance.id = %lease.instance_id, %status, "the attempt ended");
    } else {
        tracing::info!(task.id = %lease.task_id, instance.id = %lease.instance_id, %status, "the attempt ended");
    }
}
