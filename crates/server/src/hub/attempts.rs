//! What one connection's agent runs, and which assignments it has not answered yet.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use hetuflow_core::{id::InstanceId, protocol::Kept, task::Lease};
use tokio::time::Instant;

use super::outbox::Unit;

/// Ended attempts that are remembered, so that a result that comes again is answered as the first was.
const MAX_ENDED: usize = 256;

/// How long an answer to an assignment may take, from the moment it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// After this the assignment is sent again, under the same lease.
    pub(crate) repeat: Duration,
    /// After this the connection is not worth keeping.
    pub(crate) give_up: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Attempts {
    held: HashMap<InstanceId, Attempt>,
    ended: VecDeque<Lease>,
    unanswered: u32,
}

#[derive(Debug)]
struct Attempt {
    lease: Lease,
    /// Until the agent has answered.
    sent: Option<Sent>,
    asked_to_end: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    first: Unit,
    last: Unit,
    copies: u32,
}

/// What an `Accepted` (or any later report) is to the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    First,
    /// It was answered before: the assignment had been sent twice, or the attempt was kept at the hello.
    Again,
    /// The attempt is not this agent's.
    Unknown,
}

/// What a refusal means for the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was sent once and refused: it never began.
    NeverBegan,
    /// It was sent more than once, and another copy may yet be accepted: only a hello can tell.
    InDoubt,
    /// Not an assignment that waits for its answer, such as a second answer to a repeated one.
    Unknown,
}

/// What became of assignments that waited too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) repeated: u32,
    /// At least one has waited beyond hope.
    pub(crate) hopeless: bool,
}

impl Attempts {
    pub(super) fn kept(keep: &[Kept]) -> Self {
        let held = keep.iter().map(|kept| {
            (kept.lease.instance_id, Attempt { lease: kept.lease, sent: None, asked_to_end: None })
        });
        Self { held: held.collect(), ..Self::default() }
    }

    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    pub(super) fn sent(&mut self, lease: Lease, unit: Unit) {
        let sent = Some(Sent { first: unit.clone(), last: unit, copies: 1 });
        self.held.insert(lease.instance_id, Attempt { lease, sent, asked_to_end: None });
        self.unanswered += 1;
    }

    pub(super) fn answered(&mut self, lease: Lease) -> Answer {
        let Some(attempt) = self.held.get_mut(&lease.instance_id).filter(|attempt| attempt.lease == lease)
        else {
            return if self.ended.contains(&lease) { Answer::Again } else { Answer::Unknown };
        };
        if attempt.sent.take().is_none() {
            return Answer::Again;
        }
        self.unanswered -= 1;
        Answer::First
    }

    pub(super) fn refused(&mut self, lease: Lease) -> Refusal {
        let copies = self
            .held
            .get(&lease.instance_id)
            .filter(|attempt| attempt.lease == lease)
            .and_then(|attempt| attempt.sent.as_ref())
            .map_or(0, |sent| sent.copies);
        match copies {
            0 => Refusal::Unknown,
            1 => {
                self.held.remove(&lease.instance_id);
                self.unanswered -= 1;
                Refusal::NeverBegan
            }
            _ => Refusal::InDoubt,
        }
    }

    pub(super) fn holds(&self, lease: Lease) -> bool {
        self.held.get(&lease.instance_id).is_some_and(|attempt| attempt.lease == lease)
            || self.ended.contains(&lease)
    }

    pub(super) fn lease_of(&self, instance: InstanceId) -> Option<Lease> {
        let ended = || self.ended.iter().find(|lease| lease.instance_id == instance).copied();
        self.held.get(&instance).map(|attempt| attempt.lease).or_else(ended)
    }

    pub(super) fn ended(&mut self, lease: Lease) {
        self.answered(lease);
        if self.held.remove(&lease.instance_id).is_none() {
            return;
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(lease);
    }

    /// Whether the agent has the attempt and should be asked (again) to end it. `Some(false)`: it was asked a moment ago.
    pub(super) fn ask_to_end(&mut self, lease: Lease, now: Instant, pause: Duration) -> Option<bool> {
        let attempt = self.held.get_mut(&lease.instance_id).filter(|attempt| attempt.lease == lease)?;
        // Before its answer a cancellation could overtake the assignment and miss it.
        if attempt.sent.is_some() {
            return None;
        }
        let due = attempt.asked_to_end.is_none_or(|asked| now.saturating_duration_since(asked) >= pause);
        if due {
            attempt.asked_to_end = Some(now);
        }
        Some(due)
    }

    /// Calls `resend` for every assignment that is due once more.
    pub(super) fn repeat_unanswered(
        &mut self,
        patience: &Patience,
        now: Instant,
        mut resend: impl FnMut(Unit) -> bool,
    ) -> Overdue {
        let mut overdue = Overdue::default();
        let waited = |unit: &Unit| unit.written.get().map(|at| now.saturating_duration_since(*at));
        for sent in self.held.values_mut().filter_map(|attempt| attempt.sent.as_mut()) {
            if waited(&sent.first).is_some_and(|waited| waited >= patience.give_up) {
                overdue.hopeless = true;
            } else if waited(&sent.last).is_some_and(|waited| waited >= patience.repeat) {
                let again = sent.last.again();
                if resend(again.clone()) {
                    sent.last = again;
                    sent.copies += 1;
                    overdue.repeated += 1;
                }
            }
        }
        overdue
    }
}
