//! What a due schedule does now: fire, pass over missed times, or move on. Pure.

use hetuflow_core::schedule::Missed;
use jiff::{SignedDuration, Timestamp};

use crate::triggers::{ClockRule, Clocked};

/// Up to this late, every time is fired: the server was busy, not away.
const BUSY: SignedDuration = SignedDuration::from_secs(5);

/// `missed = "skip"` still runs what is at most this late: a restart at the wrong second is no absence.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Run it; `next` is the time after it.
    Fire { next: Option<Timestamp> },
    /// Do not run it; the schedule continues with `next`.
    Pass { next: Option<Timestamp> },
}

pub(super) fn step(clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Step {
    let late = now.duration_since(run_at);
    let next = clocked.next_after(run_at);
    if late > BUSY && next.is_some_and(|next| next <= now) {
        // Several were missed: only the newest counts, and it is judged by itself.
        return Step::Pass { next: newest(clocked, run_at, now) };
    }
    match clocked.missed() {
        Missed::Skip if late > GRACE => Step::Pass { next: clocked.next_after(now) },
        Missed::Skip | Missed::Latest => Step::Fire { next },
    }
}

/// The newest time that is not after `now`, when at least one lies after `from`. By halving, because
/// "every second" can have missed a week.
fn newest(clocked: &Clocked, from: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let not_after_now = |millis: i64| {
        let after = Timestamp::from_millisecond(millis).ok()?;
        clocked.next_after(after).filter(|next| *next <= now)
    };
    // At `low` a time follows that is not after now, at `high` none does.
    let (mut low, mut high) = (from.as_millisecond(), now.as_millisecond() + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if not_after_now(middle).is_some() {
            low = middle;
        } else {
            high = middle;
        }
    }
    not_after_now(low)
}

impl Clocked {
    /// The first time after `after`; `None` when there is none any more.
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            ClockRule::Cron(cron) => cron.next_after(after),
            ClockRule::Interval(interval) => interval.next_after(self.created_at, after),
        }
    }

    fn missed(&self) -> Missed {
        match &self.rule {
            ClockRule::Cron(cron) => cron.missed,
            ClockRule::Interval(interval) => interval.missed,
        }
    }
}
