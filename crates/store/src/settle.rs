//! What becomes of a task when its attempt ends: the same pure rules for a result, a reaped session and
//! a journal that was lost, in both dialects.

use hetuflow_core::{
    retry::RetryPolicy,
    status::Status,
    task::{EndReason, Outcome},
};
use jiff::Timestamp;

use crate::{Report, StoreError, row, row::Columns};

/// The task under an attempt, as its row says.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) policy: RetryPolicy,
    /// Counted from 1.
    pub(crate) number: u32,
    pub(crate) cancel_requested: bool,
}

/// What the task's row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) status: Status,
    /// The next attempt's time; the task's time stays when there is none.
    pub(crate) run_at: Option<Timestamp>,
    /// Set when nothing follows.
    pub(crate) finished_at: Option<Timestamp>,
}

impl Attempt {
    /// Reads `policy`, `attempt` and `cancel_requested` of a task.
    pub(crate) fn from_row(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self {
            policy: row.json("policy")?,
            number: row::number(row, "attempt")?,
            cancel_requested: row.flag("cancel_requested")?,
        })
    }

    /// The attempt ended with `outcome` at `ended_at`.
    pub(crate) fn end(&self, outcome: &Outcome, ended_at: Timestamp, now: Timestamp, random: f64) -> Settled {
        let status = outcome.status();
        let next =
            if self.cancel_requested { None } else { self.policy.next(outcome, self.number, now, random) };
        match next {
            Some(run_at) => Settled { status: Status::WaitingRetry, run_at: Some(run_at), finished_at: None },
            None => Settled { status, run_at: None, finished_at: Some(ended_at) },
        }
    }
}

/// What a task becomes whose attempt never began: it waits as before, unless its end was asked for.
/// `ended_before` says that an earlier attempt has left its outcome.
pub(crate) fn given_back(cancel_requested: bool, ended_before: bool, now: Timestamp) -> Settled {
    let (status, finished_at) = match (cancel_requested, ended_before) {
        (true, _) => (Status::Cancelled, Some(now)),
        (false, true) => (Status::WaitingRetry, None),
        (false, false) => (Status::Pending, None),
    };
    Settled { status, run_at: None, finished_at }
}

/// How a result for an attempt that has ended is answered: the same one again is fine, because the
/// first answer may have been lost. One for an attempt that the server has called lost is too late.
pub(crate) fn report_after_end(stored: Status, outcome: &Outcome) -> Report {
    let late = stored == Status::Lost && outcome.reason != EndReason::Lost;
    if late { Report::Fenced } else { Report::Recorded }
}

/// Why an earlier run of a daemon is not run again.
pub(crate) fn not_the_last_run() -> StoreError {
    StoreError::Conflict(
        "the task is a run of a daemon, which has another run by now or is about to".to_owned(),
    )
}

pub(crate) fn cancelled_before_start() -> Outcome {
    Outcome::because(EndReason::Cancelled, "cancelled before it started")
}

pub(crate) fn session_ran_out() -> Outcome {
    Outcome::because(EndReason::Lost, "the agent's session ran out and it did not come back in time")
}

pub(crate) fn journal_replaced() -> Outcome {
    Outcome::because(
        EndReason::Lost,
        "the agent came back with another journal; nobody knows how the attempt ended",
    )
}

pub(crate) fn not_in_journal() -> Outcome {
    Outcome::because(
        EndReason::Lost,
        "the agent had accepted the attempt, but its journal does not know it any more",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hetuflow_core::retry::{Backoff, OnLost, Retry};

    use super::*;

    fn attempt(max_retries: u32, on_lost: OnLost, cancel_requested: bool) -> Attempt {
        let retry = Retry { backoff: Backoff::Fixed, ..Retry::default() };
        let policy =
            RetryPolicy { max_retries, interval: Duration::from_secs(10), retry, on_lost, daemon: false };
        Attempt { policy, number: 1, cancel_requested }
    }

    #[test]
    fn an_end_is_settled_by_the_policy() {
        let now = Timestamp::UNIX_EPOCH;
        let check = |attempt: &Attempt, outcome: &Outcome, status: Status, run_at: Option<i64>| {
            let settled = attempt.end(outcome, now, now, 0.0);
            assert_eq!(settled.status, status);
            assert_eq!(settled.run_at.map(Timestamp::as_second), run_at);
            assert_eq!(settled.finished_at.is_some(), run_at.is_none());
        };
        let retrying = attempt(1, OnLost::Retry, false);
        check(&retrying, &Outcome::exit(0), Status::Succeeded, None);
        check(&retrying, &Outcome::exit(1), Status::WaitingRetry, Some(10));
        check(&retrying, &session_ran_out(), Status::WaitingRetry, Some(0));
        check(&attempt(1, OnLost::Hold, false), &session_ran_out(), Status::Lost, None);
        check(&attempt(0, OnLost::Retry, false), &Outcome::exit(1), Status::Failed, None);
        check(&attempt(1, OnLost::Retry, true), &Outcome::exit(1), Status::Failed, None);
        check(&attempt(1, OnLost::Retry, true), &session_ran_out(), Status::Lost, None);
    }

    #[test]
    fn a_task_that_is_given_back_waits_as_before() {
        let check = |cancel, before, status: Status| {
            assert_eq!(given_back(cancel, before, Timestamp::UNIX_EPOCH).status, status);
        };
        check(false, false, Status::Pending);
        check(false, true, Status::WaitingRetry);
        check(true, false, Status::Cancelled);
    }

    #[test]
    fn a_result_again_is_recorded_and_one_after_loss_is_fenced() {
        assert_eq!(report_after_end(Status::Succeeded, &Outcome::exit(0)), Report::Recorded);
        assert_eq!(report_after_end(Status::Lost, &Outcome::exit(0)), Report::Fenced);
        assert_eq!(report_after_end(Status::Lost, &session_ran_out()), Report::Recorded);
    }
}
