//! What a due schedule does now: fire, pass over missed times, or move on. Pure.

use hetuflow_core::schedule::{DuringBlackout, Missed};
use jiff::{SignedDuration, Timestamp};

use crate::triggers::Clocked;

/// Up to this late, every time is fired: the server was busy, not away.
const BUSY: SignedDuration = SignedDuration::from_secs(5);

/// `missed = "skip"` still runs what is at most this late: a restart at the wrong second is no absence.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Fire {
        /// When its run starts: later than its time by jitter, or by a blackout.
        starts_at: Timestamp,
        /// The time after it.
        next: Option<Timestamp>,
        /// Why it does not start at its time.
        reason: Option<String>,
    },
    /// Do not run it; the schedule continues with `next`.
    Pass { next: Option<Timestamp>, reason: String },
}

pub(super) fn step(clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Step {
    let policy = &clocked.schedule.policy;
    let blackout = policy.blackout_end(run_at);
    let (due, next) = match blackout {
        None => (run_at, clocked.next_after(run_at)),
        Some(end) => (end, clocked.next_from(end)),
    };
    if let Some(end) = blackout.filter(|_| policy.during_blackout == DuringBlackout::Skip) {
        return Step::Pass { next, reason: format!("blackout until {end}") };
    }
    let late = now.duration_since(due);
    if late > BUSY
        && let Some(step) = pass_missed(clocked, run_at, next, late, now)
    {
        return step;
    }
    // What is made up for keeps out of a blackout too.
    match policy.blackout_end(now).filter(|_| late > BUSY).or(blackout) {
        Some(end) if policy.during_blackout == DuringBlackout::Skip => Step::Pass {
            next,
            reason: format!("missed by {late:#}, and now there is a blackout until {end}"),
        },
        until => fire(clocked, run_at, until, next, late),
    }
}

/// What `missed` says about a time that is this late, where it says that it does not run.
fn pass_missed(
    clocked: &Clocked,
    run_at: Timestamp,
    next: Option<Timestamp>,
    late: SignedDuration,
    now: Timestamp,
) -> Option<Step> {
    let policy = &clocked.schedule.policy;
    let window = policy.window().and_then(|window| SignedDuration::try_from(window).ok());
    let several = next.is_some_and(|next| next <= now);
    match policy.missed {
        // Only the newest counts, and it is judged by itself.
        Missed::Latest | Missed::Skip if several => {
            let newest = newest(clocked, run_at, now);
            let until = newest.unwrap_or(now);
            let reason = format!("missed, as were all times until {until}: only that one is looked at");
            Some(Step::Pass { next: newest, reason })
        }
        Missed::Skip if late > GRACE => {
            let reason = format!("missed by {late:#}, and missed = \"skip\" makes up for nothing");
            Some(Step::Pass { next: clocked.next_after(now), reason })
        }
        Missed::Latest | Missed::All => window.filter(|window| late > *window).map(|window| {
            let reason = format!("missed by {late:#}, and missed_window is {window:#}");
            Step::Pass { next: clocked.next_from(now - window), reason }
        }),
        Missed::Skip => None,
    }
}

fn fire(
    clocked: &Clocked,
    run_at: Timestamp,
    blackout_until: Option<Timestamp>,
    next: Option<Timestamp>,
    late: SignedDuration,
) -> Step {
    let start = blackout_until.unwrap_or(run_at);
    let starts_at = clocked.schedule.start(clocked.created_at, &clocked.key, run_at, start);
    let reason = match blackout_until {
        Some(end) => Some(format!("blackout until {end}")),
        None if late > GRACE => Some(format!("missed by {late:#} and made up for")),
        None if starts_at > run_at => Some(format!("jitter of {:#}", starts_at.duration_since(run_at))),
        None => None,
    };
    Step::Fire { starts_at, next, reason }
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
