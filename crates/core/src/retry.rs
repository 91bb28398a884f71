//! What follows an attempt that ended badly: pure rules over the job's policy.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{job::JobSpec, status::Status};

/// `retry = { backoff = "exponential", max_interval = "5m", jitter = true }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    #[serde(default)]
    pub backoff: Backoff,
    #[serde(default = "default_max_interval", with = "crate::duration")]
    pub max_interval: Duration,
    /// Takes up to half of the wait off, at random, so that failures do not come back in step.
    #[serde(default)]
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Backoff::default(), max_interval: default_max_interval(), jitter: false }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    Fixed,
    /// The wait doubles with every attempt, up to `max_interval`.
    #[default]
    Exponential,
}

/// What follows an attempt whose end nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// Run it again, within `max_retries`: for jobs that may run twice.
    Retry,
    /// The task is lost, finally.
    Fail,
    /// The task is lost and waits for a person (`hetuflow task retry`).
    Hold,
}

/// The part of a job that decides about further attempts; every task carries its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub max_retries: u32,
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    pub retry: Retry,
    pub on_lost: OnLost,
}

impl RetryPolicy {
    #[must_use]
    pub fn of(job: &JobSpec) -> Self {
        let default = if job.max_retries > 0 { OnLost::Retry } else { OnLost::Hold };
        Self {
            max_retries: job.max_retries,
            interval: job.retry_interval,
            retry: job.retry.clone(),
            on_lost: job.on_lost.unwrap_or(default),
        }
    }

    /// When the attempt after `attempt` (counted from 1) may start; `None` when there is none.
    /// `random` is in `0.0..1.0`.
    #[must_use]
    pub fn next(&self, ended: Status, attempt: u32, now: Timestamp, random: f64) -> Option<Timestamp> {
        if attempt > self.max_retries {
            return None;
        }
        match ended {
            Status::Failed | Status::TimedOut => now.checked_add(self.wait(attempt, random)).ok(),
            // Nothing ran to completion that a wait would help; what was lost goes back at once.
            Status::Lost => (self.on_lost == OnLost::Retry).then_some(now),
            Status::Pending
            | Status::WaitingRetry
            | Status::Locked
            | Status::Dispatched
            | Status::Running
            | Status::Cancelled
            | Status::Succeeded => None,
        }
    }

    fn wait(&self, attempt: u32, random: f64) -> Duration {
        let wait = match self.retry.backoff {
            Backoff::Fixed => self.interval,
            Backoff::Exponential => {
                let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
                self.interval.saturating_mul(factor).min(self.retry.max_interval.max(self.interval))
            }
        };
        if self.retry.jitter { wait.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0) } else { wait }
    }
}

const fn default_max_interval() -> Duration {
    Duration::from_hours(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff, jitter: bool, on_lost: OnLost) -> RetryPolicy {
        RetryPolicy {
            max_retries: 5,
            interval: Duration::from_secs(10),
            retry: Retry { backoff, max_interval: Duration::from_mins(1), jitter },
            on_lost,
        }
    }

    #[test]
    fn waits() {
        let now = Timestamp::UNIX_EPOCH;
        let check = |policy: &RetryPolicy, ended, attempt, random, expected: Option<i64>| {
            assert_eq!(policy.next(ended, attempt, now, random).map(Timestamp::as_second), expected);
        };
        let fixed = policy(Backoff::Fixed, false, OnLost::Hold);
        check(&fixed, Status::Failed, 1, 0.0, Some(10));
        check(&fixed, Status::Failed, 5, 0.0, Some(10));
        check(&fixed, Status::Failed, 6, 0.0, None);
        check(&fixed, Status::Lost, 1, 0.0, None);
        check(&fixed, Status::Cancelled, 1, 0.0, None);
        let doubling = policy(Backoff::Exponential, false, OnLost::Retry);
        check(&doubling, Status::TimedOut, 1, 0.0, Some(10));
        check(&doubling, Status::TimedOut, 3, 0.0, Some(40));
        check(&doubling, Status::TimedOut, 4, 0.0, Some(60));
        check(&doubling, Status::Lost, 1, 0.0, Some(0));
        check(&policy(Backoff::Fixed, true, OnLost::Fail), Status::Failed, 1, 1.0, Some(5));
    }
}
