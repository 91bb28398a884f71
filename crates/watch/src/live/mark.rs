//! The watermark of a watch: up to when everything that was complete is acknowledged by the server. Only where the server
//! judges deadlines; taken after a commit, now and then.

use std::time::{Duration, Instant};

use hetuflow_core::protocol::WatchHealth;
use jiff::{SignedDuration, Timestamp};

use super::Live;

/// Between two watermarks.
const EVERY: Duration = Duration::from_secs(20);

/// Until it is tried again, where something waits to be decided.
const AGAIN: Duration = Duration::from_secs(2);

/// What the text of a time in the outbox may be off by.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug)]
pub(super) struct Mark {
    at: Option<Timestamp>,
    next: Instant,
}

impl Mark {
    pub(super) const fn new(now: Instant) -> Self {
        Self { at: None, next: now }
    }

    pub(super) const fn at(&self) -> Option<Timestamp> {
        self.at
    }
}

/// The last turn: when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) wall: Timestamp,
    pub(crate) at: Instant,
}

impl Live {
    /// When the next watermark is to be taken.
    pub(crate) fn mark_at(&self) -> Option<Instant> {
        self.definition.watch.source.has_deadlines.then_some(self.mark.next)
    }

    /// What the last turn decided is committed; `told_since` is when the first event was seen that is not acknowledged.
    pub(crate) fn take_mark(&mut self, began: Began, told_since: Option<Timestamp>) {
        if self.mark_at().is_none_or(|at| at > began.at) {
            return;
        }
        if !self.is_up_to_date(began.at) {
            self.mark.next = began.at + AGAIN;
            return;
        }
        self.mark.next = began.at + EVERY;
        let told_since = told_since.map(|at| at - ROUNDING);
        let polled = self.roots.iter().filter(|root| root.health() == WatchHealth::Polling);
        let looked = polled.filter_map(|root| root.last_pass);
        let bounds = looked.chain(self.batches.first_seen()).chain(told_since).chain([began.wall]);
        // It does not go back: what came to be complete since was not before.
        self.mark.at = bounds.min().max(self.mark.at);
    }

    /// Whether the last turn has seen everything, and left nothing undecided that it could decide.
    fn is_up_to_date(&self, began: Instant) -> bool {
        let looks = [WatchHealth::Live, WatchHealth::Polling];
        let sees = |root: &crate::root::Root| {
            root.is_recorded() && root.last_pass.is_some() && looks.contains(&root.health())
        };
        !self.is_passing()
            && !self.waiting.overflowed
            && self.roots.iter().all(sees)
            && self.waiting.candidates.values().all(|one| one.test_at() > began && one.held_since.is_none())
    }
}
