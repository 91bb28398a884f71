//! Why a task waits, and what would free it. Pure, over what is known of the agents: those of every server, because
//! the store knows all sessions and what each agent runs.
//!
//! A new reason (an overlap with another run) gets a variant of [`WaitReason`] and its place in
//! [`waiting`]: first what time decides, then what agents decide.

mod lane;
#[cfg(test)]
mod tests;

use hetuflow_core::{
    agent::Duty,
    id::{AgentId, TaskId},
    labels::Labels,
    status::Status,
    task::{Outcome, Task, TaskInstance},
    waiting::{WaitReason, Waiting},
};
use hetuflow_store::Ahead;
use jiff::Timestamp;

/// An agent as somebody who waits for it sees it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: AgentId,
    pub(super) labels: Labels,
    pub(super) slots: u32,
    /// Attempts that it holds.
    pub(super) running: u32,
    pub(super) duty: Duty,
    pub(super) presence: Presence,
    /// What it has been running longest, where somebody looked.
    pub(super) longest: Option<Longest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Connected to some server.
    Online {
        /// Attempts that it could start now.
        free: u32,
    },
    Offline {
        since: Timestamp,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Longest {
    pub(super) task_id: TaskId,
    pub(super) since: Timestamp,
}

impl Known {
    pub(super) fn is_online(&self) -> bool {
        matches!(self.presence, Presence::Online { .. })
    }

    pub(super) fn is_full(&self) -> bool {
        self.presence == Presence::Online { free: 0 }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.duty == Duty::Drained
    }
}

/// What is known besides the task itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// Its newest attempt, where somebody looked.
    pub(super) newest: Option<&'a TaskInstance>,
    pub(super) agents: &'a [Known],
    /// When the blackout ends that its schedule is in now.
    pub(super) blackout_end: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// `None` for a task that runs, or that has ended and waits for nobody.
pub(super) fn waiting(task: &Task, facts: &Facts<'_>) -> Option<Waiting> {
    match task.status {
        Status::Pending if task.queued => Some(behind(None)),
        Status::Pending | Status::WaitingRetry if task.run_at > facts.now => {
            Some(until_its_time(task, facts))
        }
        Status::Pending | Status::WaitingRetry => Some(lane::waiting(&task.lane, facts.agents)),
        Status::Locked | Status::Dispatched | Status::Running => leased(task, facts),
        Status::Lost if task.is_held() => Some(held(task)),
        Status::Lost | Status::Failed | Status::TimedOut | Status::Cancelled | Status::Succeeded => None,
    }
}

pub(super) fn because(reason: WaitReason, text: impl Into<String>, remedy: impl Into<String>) -> Waiting {
    Waiting { reason, text: text.into(), remedy: remedy.into(), until: None }
}

fn until_its_time(task: &Task, facts: &Facts<'_>) -> Waiting {
    let at = task.run_at;
    let (reason, text) = if task.status == Status::WaitingRetry {
        let last = task.outcome.as_ref().map_or_else(String::new, |outcome| {
            format!("; attempt {} ended with {}", task.attempt, ended(outcome))
        });
        let next = task.attempt + 1;
        let of = task.policy.max_retries.saturating_add(1);
        (WaitReason::Retry, format!("attempt {next} of {of} starts at {at}{last}"))
    } else if let Some(end) = facts.blackout_end.filter(|end| *end <= at) {
        (WaitReason::Blackout, format!("its schedule has a blackout until {end}; it is planned for {at}"))
    } else {
        (WaitReason::Scheduled, format!("it is planned for {at}"))
    };
    let remedy = format!("{at}; or `hetuflow task cancel {}`, then `retry`, to run it now", task.id);
    Waiting { until: Some(at), ..because(reason, text, remedy) }
}

/// It waits for a run of its own schedule.
pub(super) fn behind(ahead: Option<&Ahead>) -> Waiting {
    let (text, remedy) = match ahead {
        Some(ahead) => {
            let text = format!("it waits for the run of {} to end (task {})", ahead.run_at, ahead.task_id);
            (text, format!("that run ends, or `hetuflow task cancel {}`", ahead.task_id))
        }
        None => (
            "it waits for an earlier run of its schedule to end".to_owned(),
            "the earlier run ends, or is cancelled".to_owned(),
        ),
    };
    because(WaitReason::EarlierRun, text, remedy)
}

fn ended(outcome: &Outcome) -> String {
    let number = outcome.exit_code.or(outcome.signal);
    match number {
        Some(number) => format!("{} {number}", outcome.reason.name()),
        None => outcome.reason.name().to_owned(),
    }
}

/// What an agent holds waits only where something does not move.
fn leased(task: &Task, facts: &Facts<'_>) -> Option<Waiting> {
    let Facts { newest, agents, now, .. } = *facts;
    let holder = newest.and_then(|newest| agents.iter().find(|agent| agent.id == newest.agent_id));
    if let Some(Known { id, presence: Presence::Offline { since }, .. }) = holder {
        let text = format!("agent {id}, which holds it, has not been heard of since {since}");
        let remedy = "the agent comes back; stays it away, the attempt is lost and `on_lost` decides";
        return Some(because(WaitReason::AgentAway, text, remedy));
    }
    let who = holder.map_or_else(|| "an agent".to_owned(), |agent| format!("agent {}", agent.id));
    if task.cancel_requested {
        let text = format!("{who} was asked to end it");
        let remedy = "the process ends, or is killed after the agent's `grace`";
        return Some(because(WaitReason::Ending, text, remedy));
    }
    if task.status != Status::Locked {
        return None;
    }
    let for_long = newest.map_or_else(String::new, |newest| {
        format!(" for {} s", now.duration_since(newest.created_at).as_secs().max(0))
    });
    let text = format!("it was given to {who}, which has not confirmed it{for_long}");
    let remedy = "the agent confirms; else the server takes it back by itself";
    Some(because(WaitReason::Unconfirmed, text, remedy))
}

fn held(task: &Task) -> Waiting {
    let id = task.id;
    let why = task.outcome.as_ref().and_then(|outcome| outcome.message.as_deref());
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    let text =
        format!("its fate is unknown{why}: it may have had its effect, so that nobody repeats it unasked");
    let remedy = format!(
        "look what it has done; `hetuflow task retry {id}` runs it again, otherwise leave it as it is"
    );
    because(WaitReason::Held, text, remedy)
}
