//! `[on.daemon]`: a job that is kept running, and what follows when a run of it ends. Pure; the store asks when it
//! sees an end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    duration,
    retry::{OnLost, RetryPolicy, exponential},
    task::{EndReason, Outcome},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSchedule {
    /// `daemon 1`: its place among those of its kind.
    pub name: String,
    pub rule: DaemonRule,
}

/// When it is started again, and how long that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonRule {
    pub restart: Restart,
    /// The wait before the first restart. It doubles with each further one, up to `max_backoff`.
    #[serde(with = "duration")]
    pub backoff: Duration,
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// After a run that lasted this long the wait is `backoff` again.
    #[serde(with = "duration")]
    pub reset_after: Duration,
}

impl Default for DaemonRule {
    fn default() -> Self {
        Self {
            restart: Restart::default(),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_mins(1),
            reset_after: Duration::from_mins(1),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended.
    #[default]
    Always,
    /// Not after exit code 0.
    OnFailure,
}

impl Restart {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
        }
    }
}

/// One run that has ended.
#[derive(Debug, Clone, Copy)]
pub struct RunEnd<'a> {
    pub outcome: &'a Outcome,
    pub policy: &'a RetryPolicy,
    /// How long its process ran.
    pub lasted: Duration,
    /// Restarts before it, since a run last lasted long enough.
    pub restarts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRun {
    /// The `restarts`th restart in a row, after this wait.
    Restart { wait: Duration, restarts: u32 },
    /// Nothing follows by itself.
    Stop,
    /// It may still run somewhere: a person decides.
    Hold,
}

impl DaemonRule {
    #[must_use]
    pub fn after(&self, end: RunEnd<'_>) -> AfterRun {
        match end.outcome.reason {
            // Somebody asked for that end; the same template fails the same way.
            EndReason::Cancelled | EndReason::Render => AfterRun::Stop,
            EndReason::Lost if end.policy.holds(end.outcome) => AfterRun::Hold,
            EndReason::Lost if !end.outcome.gone && end.policy.on_lost == OnLost::Fail => AfterRun::Stop,
            EndReason::Exit if self.restart == Restart::OnFailure && end.outcome.exit_code == Some(0) => {
                AfterRun::Stop
            }
            EndReason::Exit | EndReason::Signal | EndReason::Timeout | EndReason::Spawn | EndReason::Lost => {
                self.again(end.lasted, end.restarts)
            }
        }
    }

    fn again(&self, lasted: Duration, restarts: u32) -> AfterRun {
        let before = if lasted >= self.reset_after { 0 } else { restarts };
        let restarts = before.saturating_add(1);
        AfterRun::Restart { wait: exponential(self.backoff, self.max_backoff, restarts), restarts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobSpec;

    const RULE: DaemonRule = DaemonRule {
        restart: Restart::Always,
        backoff: Duration::from_secs(2),
        max_backoff: Duration::from_secs(30),
        reset_after: Duration::from_mins(1),
    };

    fn policy(on_lost: Option<OnLost>) -> RetryPolicy {
        // What a named job says about retries is not for a daemon.
        RetryPolicy::of_daemon(&JobSpec { on_lost, max_retries: 5, ..JobSpec::running("true") })
    }

    fn after(rule: DaemonRule, outcome: &Outcome, lasted: u64, restarts: u32) -> AfterRun {
        let policy = policy(None);
        rule.after(RunEnd { outcome, policy: &policy, lasted: Duration::from_secs(lasted), restarts })
    }

    #[test]
    fn the_wait_doubles_until_a_run_has_lasted() {
        let check = |lasted, before, wait, restarts| {
            let wait = Duration::from_secs(wait);
            assert_eq!(after(RULE, &Outcome::exit(1), lasted, before), AfterRun::Restart { wait, restarts });
        };
        check(0, 0, 2, 1);
        check(0, 1, 4, 2);
        check(59, 2, 8, 3);
        check(0, 3, 16, 4);
        check(0, 4, 30, 5);
        check(0, u32::MAX, 30, u32::MAX);
        check(60, 4, 2, 1);
        check(86_400, u32::MAX, 2, 1);
    }

    #[test]
    fn what_is_started_again() {
        let on_failure = DaemonRule { restart: Restart::OnFailure, ..RULE };
        let check = |outcome: &Outcome, always: bool, failed: bool| {
            for (rule, expected) in [(RULE, always), (on_failure, failed)] {
                let again = matches!(after(rule, outcome, 0, 0), AfterRun::Restart { .. });
                assert_eq!(again, expected, "{outcome:?} {rule:?}");
            }
        };
        check(&Outcome::exit(0), true, false);
        check(&Outcome::exit(1), true, true);
        for reason in [EndReason::Signal, EndReason::Timeout, EndReason::Spawn] {
            check(&Outcome::because(reason, ""), true, true);
        }
        for reason in [EndReason::Cancelled, EndReason::Render] {
            check(&Outcome::because(reason, ""), false, false);
        }
    }

    #[test]
    fn a_lost_run_is_started_again_only_when_it_is_known_to_be_gone() {
        let check = |on_lost: Option<OnLost>, gone: bool, expected: AfterRun| {
            let outcome = Outcome { gone, ..Outcome::because(EndReason::Lost, "") };
            let policy = policy(on_lost);
            let end = RunEnd { outcome: &outcome, policy: &policy, lasted: Duration::ZERO, restarts: 0 };
            assert_eq!(RULE.after(end), expected, "{on_lost:?} {gone}");
        };
        let again = AfterRun::Restart { wait: RULE.backoff, restarts: 1 };
        check(None, false, AfterRun::Hold);
        check(Some(OnLost::Hold), false, AfterRun::Hold);
        check(Some(OnLost::Fail), false, AfterRun::Stop);
        check(Some(OnLost::Retry), false, again);
        for on_lost in [None, Some(OnLost::Hold), Some(OnLost::Fail), Some(OnLost::Retry)] {
            check(on_lost, true, again);
        }
    }
}
