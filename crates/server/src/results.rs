//! How attempts ended: from an agent's report to the store, and the verdict back. Step 10 of the walk.
//!
//! Nothing is retried here: the store applies the task's own policy in the same commit.

use hetuflow_core::{
    protocol::{ResultVerdict, RunResult, ToAgent},
    status::Status,
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Finish, Report, StoreError};

use crate::AppState;

/// Ends the attempts durably; only then may the verdicts be sent. In the order of the batch. Safe to repeat.
pub(crate) async fn settle(state: &AppState, batch: &[RunResult]) -> Result<Vec<ResultVerdict>, StoreError> {
    failpoint!("result.before_store");
    let finishes: Vec<Finish> = batch.iter().map(finish).collect();
    let reports = state.store.finish(&finishes, state.clock.now(), rand::random::<f64>()).await?;
    state
        .metrics
        .tasks_finished
        .add(reports.iter().filter(|report| **report == Report::Recorded).count() as u64);
    for (result, report) in batch.iter().zip(&reports) {
        log_end(state, result, *report).await;
    }
    Ok(reports.into_iter().map(verdict).collect())
}

/// The answer to a report on an attempt that is not the agent's.
pub(crate) fn fenced(lease: Lease) -> ToAgent {
    ToAgent::ResultAck { lease, verdict: ResultVerdict::Fenced }
}

/// The task has been run before by an agent that remembers more than the database: it is lost, and its policy decides.
pub(crate) async fn forgotten(state: &AppState, lease: Lease) -> Result<(), StoreError> {
    tracing::error!(
        task.id = %lease.task_id, fence = lease.fence,
        "an agent has seen a newer attempt than the database knows: was it restored from a copy?"
    );
    let now = state.clock.now();
    let message =
        "an agent had this attempt or a newer one before; the database does not know what became of it";
    let outcome = Outcome::because(EndReason::Lost, message);
    let finish = Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 };
    state.store.finish(&[finish], now, rand::random()).await.map(|_| ())
}

fn finish(result: &RunResult) -> Finish {
    Finish {
        lease: result.lease,
        outcome: result.outcome.clone(),
        started_at: result.started_at,
        finished_at: result.finished_at,
        output_dropped: result.output_dropped,
    }
}

fn verdict(report: Report) -> ResultVerdict {
    match report {
        Report::Recorded => ResultVerdict::Recorded,
        Report::Fenced => ResultVerdict::Fenced,
    }
}

/// One line for what ended badly; what went well is in the history.
async fn log_end(state: &AppState, result: &RunResult, report: Report) {
    let status = result.outcome.status();
    if status == Status::Succeeded {
        return;
    }
    // Its name is for people only: without it the line is still true.
    let trigger = match state.store.task(result.lease.task_id).await {
        Ok(task) => format!("{}/{}", task.namespace, task.trigger),
        Err(_) => "unknown".to_owned(),
    };
    tracing::warn!(
        task.id = %result.lease.task_id,
        instance.id = %result.lease.instance_id,
        trigger,
        %status,
        reason = ?result.outcome.reason,
        exit_code = result.outcome.exit_code,
        signal = result.outcome.signal,
        recorded = report == Report::Recorded,
        "attempt ended badly"
    );
}
