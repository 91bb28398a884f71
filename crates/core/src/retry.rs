//! What follows an attempt that ended badly: pure rules over the job's policy.
//!
//! The store asks [`RetryPolicy::next`] whenever an attempt ends; every task carries the policy that it was
//! planned with. docs/triggers.md has the same rules for people.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    job::JobSpec,
    task::{EndReason, Outcome},
};

/// `retry = { backoff = "exponential", max_interval = "5m", jitter = true, on = ["exit"], exit_codes = [75] }`
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
    /// Which ends are followed by another attempt; without it `exit`, `signal`, `timeout` and `spawn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryReason>>,
    /// After an exit: only these codes. Empty: every code but 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// After an exit: not these codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_exit_codes: Vec<i32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            max_interval: default_max_interval(),
            jitter: false,
            on: None,
            exit_codes: Vec::new(),
            not_exit_codes: Vec::new(),
        }
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

/// The ends that another attempt may follow. `cancelled` is not among them, because somebody asked for that
/// end; neither is `render`, because the same event fills the same template the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryReason {
    Exit,
    Signal,
    Timeout,
    /// The program could not be started: another agent may have it, or this one later.
    Spawn,
    /// Nobody knows how it ended. Listing it is the same as `on_lost = "retry"`.
    Lost,
}

impl RetryReason {
    /// What is repeated where a job does not say: whatever is known to have ended badly.
    pub const DEFAULT: [Self; 4] = [Self::Exit, Self::Signal, Self::Timeout, Self::Spawn];

    #[must_use]
    pub const fn of(reason: EndReason) -> Option<Self> {
        match reason {
            EndReason::Exit => Some(Self::Exit),
            EndReason::Signal => Some(Self::Signal),
            EndReason::Timeout => Some(Self::Timeout),
            EndReason::Spawn => Some(Self::Spawn),
            EndReason::Lost => Some(Self::Lost),
            EndReason::Cancelled | EndReason::Render => None,
        }
    }
}

impl Retry {
    /// `on_lost` is about what is lost; everything else is decided here.
    fn repeats(&self, outcome: &Outcome) -> bool {
        let Some(reason) = RetryReason::of(outcome.reason) else { return false };
        let listed = self.on.as_deref().unwrap_or(&RetryReason::DEFAULT).contains(&reason);
        listed && (reason != RetryReason::Exit || self.repeats_code(outcome.exit_code))
    }

    fn repeats_code(&self, code: Option<i32>) -> bool {
        match code {
            Some(0) => false,
            Some(code) => {
                (self.exit_codes.is_empty() || self.exit_codes.contains(&code))
                    && !self.not_exit_codes.contains(&code)
            }
            None => self.exit_codes.is_empty(),
        }
    }
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

impl OnLost {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Fail => "fail",
            Self::Hold => "hold",
        }
    }

    /// What holds when the job does not say: a job that asks for retries may run again, unless it lists what
    /// they are for and leaves `lost` out.
    fn unsaid(max_retries: u32, retry: &Retry) -> Self {
        let listed = retry.on.as_ref().is_none_or(|on| on.contains(&RetryReason::Lost));
        if max_retries > 0 && listed { Self::Retry } else { Self::Hold }
    }
}

/// The part of a job that decides about further attempts; every task carries its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub max_retries: u32,
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    pub retry: Retry,
    pub on_lost: OnLost,
    /// It is a run of a daemon, of which there is only one at a time: what follows it is the schedule's matter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub daemon: bool,
}

impl RetryPolicy {
    #[must_use]
    pub fn of(job: &JobSpec) -> Self {
        Self {
            max_retries: job.max_retries,
            interval: job.retry_interval,
            retry: job.retry.clone(),
            on_lost: job.on_lost.unwrap_or_else(|| OnLost::unsaid(job.max_retries, &job.retry)),
            daemon: false,
        }
    }

    /// For one run of a daemon: it has one attempt, whatever the job says about retries.
    #[must_use]
    pub fn of_daemon(job: &JobSpec) -> Self {
        let on_lost = job.on_lost.unwrap_or(OnLost::Hold);
        Self { max_retries: 0, on_lost, daemon: true, ..Self::of(job) }
    }

    /// Whether a task that ended like this waits for a person. A daemon's does only while its process may still run.
    #[must_use]
    pub fn holds(&self, outcome: &Outcome) -> bool {
        let known = self.daemon && outcome.gone;
        outcome.reason == EndReason::Lost && self.on_lost == OnLost::Hold && !known
    }

    /// When the attempt after `attempt` (counted from 1) may start; `None` when there is none.
    /// `random` is in `0.0..1.0`.
    #[must_use]
    pub fn next(&self, outcome: &Outcome, attempt: u32, now: Timestamp, random: f64) -> Option<Timestamp> {
        if attempt > self.max_retries {
            return None;
        }
        if outcome.reason == EndReason::Lost {
            // Nothing ran to an end that a wait would help: it goes back at once.
            return (self.on_lost == OnLost::Retry).then_some(now);
        }
        // A wait beyond the calendar is a wait for ever, not an end.
        let after = |wait| now.checked_add(wait).unwrap_or(Timestamp::MAX);
        self.retry.repeats(outcome).then(|| after(self.wait(attempt, random)))
    }

    /// With jitter anything between half of the wait and all of it.
    fn wait(&self, attempt: u32, random: f64) -> Duration {
        let wait = match self.retry.backoff {
            Backoff::Fixed => self.interval,
            Backoff::Exponential => exponential(self.interval, self.retry.max_interval, attempt),
        };
        if self.retry.jitter { wait.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0) } else { wait }
    }
}

/// The `n`th wait: `first * 2^(n - 1)`, at most `most` (but never below `first`). Saturates instead of overflowing.
pub(crate) fn exponential(first: Duration, most: Duration, n: u32) -> Duration {
    let factor = 2_u32.saturating_pow(n.saturating_sub(1));
    first.saturating_mul(factor).min(most.max(first))
}

const fn default_max_interval() -> Duration {
    Duration::from_hours(1)
}

#[cfg(test)]
mod tests;
