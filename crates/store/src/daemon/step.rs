//! What follows from what is known of a daemon. Pure.

use std::time::Duration;

use hetuflow_core::{
    id::ScheduleId,
    retry::RetryPolicy,
    schedule::{AfterRun, RunEnd},
    task::{EndReason, Outcome},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    DaemonStart, Phase, Tending,
    facts::{Facts, JobVersion, Kept, Run, Wanted},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Leave,
    /// The run goes on (or somebody runs it again), under this version of the job.
    Run(JobVersion),
    /// End the run.
    End,
    Arm {
        schedule_id: ScheduleId,
        at: Timestamp,
        restarts: u32,
    },
    Settle(Phase),
    Forget,
}

/// What stands against a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Another server was quicker, or what it was planned with is not what holds now.
    Outdated,
    /// There is, or may be, a run: its end decides what follows.
    Run,
}

impl Facts {
    /// The restarts that count on, or what stands against the start.
    pub(crate) fn start(&self, start: &DaemonStart) -> Result<u32, Obstacle> {
        let planned = self.wanted.as_ref().is_some_and(|wanted| {
            wanted.schedule_id == start.id
                && wanted.next_run_at == Some(start.run_at)
                && wanted.definition == start.definition
        });
        match &self.kept {
            _ if !planned => Err(Obstacle::Outdated),
            None => Ok(0),
            Some(kept) => match kept.phase {
                Phase::Armed => Ok(kept.restarts),
                Phase::Stopped if kept.live().is_none() => Ok(0),
                Phase::Running | Phase::Stopping | Phase::Stopped | Phase::Held => Err(Obstacle::Run),
            },
        }
    }

    /// What follows from what is known. An end is seen here and nowhere else.
    pub(crate) fn step(&self, now: Timestamp) -> Step {
        let Some(kept) = &self.kept else { return Step::Leave };
        match (kept.phase, kept.live()) {
            (Phase::Armed, _) => self.armed(kept, now),
            (phase, Some(run)) => self.live(kept, phase, run),
            (phase, None) => self.ended(kept, phase, now),
        }
    }

    fn armed(&self, kept: &Kept, now: Timestamp) -> Step {
        match &self.wanted {
            None => Step::Forget,
            // Whoever mends what kept ending does not wait.
            Some(wanted) if !kept.says_the_same_as(wanted) || wanted.next_run_at.is_none() => {
                arm(wanted, now, 0)
            }
            Some(_) => Step::Leave,
        }
    }

    fn live(&self, kept: &Kept, phase: Phase, run: &Run) -> Step {
        let wanted = self.wanted.as_ref().filter(|wanted| kept.says_the_same_as(wanted));
        match (phase, wanted) {
            (Phase::Stopping, _) if run.cancel_requested => Step::Leave,
            (Phase::Stopping, _) | (_, None) => Step::End,
            (Phase::Running, Some(wanted)) if wanted.job == kept.job => Step::Leave,
            (_, Some(wanted)) => Step::Run(wanted.job),
        }
    }

    fn ended(&self, kept: &Kept, phase: Phase, now: Timestamp) -> Step {
        if let Some(run) = &kept.run
            && run.outcome.as_ref().is_some_and(|outcome| run.policy.holds(outcome))
        {
            return if phase == Phase::Held { Step::Leave } else { Step::Settle(Phase::Held) };
        }
        let Some(wanted) = &self.wanted else { return Step::Forget };
        match phase {
            Phase::Stopping => arm(wanted, now, 0),
            Phase::Running | Phase::Stopped if !kept.says_the_same_as(wanted) => arm(wanted, now, 0),
            Phase::Running => again(kept, wanted, now),
            // Nobody can say any more what became of it, so that only an edit starts it.
            Phase::Held => Step::Settle(Phase::Stopped),
            Phase::Stopped | Phase::Armed => Step::Leave,
        }
    }
}

fn arm(wanted: &Wanted, at: Timestamp, restarts: u32) -> Step {
    Step::Arm { schedule_id: wanted.schedule_id, at, restarts }
}

/// By the rule, from the end on; but never longer than the wait from now, because the end is told by the agent's clock.
fn again(kept: &Kept, wanted: &Wanted, now: Timestamp) -> Step {
    let gone = Outcome { gone: true, ..Outcome::because(EndReason::Lost, "retention has dropped its task") };
    let (outcome, finished_at) = match &kept.run {
        Some(run) => (run.outcome.as_ref().unwrap_or(&gone), run.finished_at),
        None => (&gone, None),
    };
    let policy = match &kept.run {
        Some(run) => run.policy.clone(),
        None => RetryPolicy::of_daemon(&wanted.definition),
    };
    let lasted = kept.run.as_ref().and_then(|run| {
        let lasted = run.finished_at?.duration_since(run.started_at?);
        Duration::try_from(lasted).ok()
    });
    let end =
        RunEnd { outcome, policy: &policy, lasted: lasted.unwrap_or_default(), restarts: kept.restarts };
    match wanted.rule.after(end) {
        AfterRun::Restart { wait, restarts } => {
            let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
            let after = |time: Timestamp| time.checked_add(wait).unwrap_or(Timestamp::MAX);
            arm(wanted, after(finished_at.unwrap_or(now)).clamp(now, after(now)), restarts)
        }
        AfterRun::Stop => Step::Settle(Phase::Stopped),
        AfterRun::Hold => Step::Settle(Phase::Held),
    }
}

impl Step {
    /// What is said of it.
    pub(crate) fn tending(self) -> Option<Tending> {
        match self {
            Self::Leave | Self::Run(_) | Self::Settle(Phase::Armed | Phase::Running | Phase::Stopping) => {
                None
            }
            Self::End => Some(Tending::Ends),
            Self::Arm { at, restarts, .. } => Some(Tending::Starts { at, restarts }),
            Self::Settle(Phase::Stopped) => Some(Tending::Stopped),
            Self::Settle(Phase::Held) => Some(Tending::Held),
            Self::Forget => Some(Tending::Forgotten),
        }
    }
}
