//! The jobs of a run: what triggers them, what they may suffer, and how each behaves for a given number. One table
//! for the world that declares them, the effect that plays them, and the checker that knows what must come of them.

use std::time::Duration;

use crate::random::mix;

/// What starts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A webhook at `/hooks/NAME`.
    Hook(&'static str),
    /// A file in the watched folder.
    File,
    /// Every second, by a cron line or as an interval.
    Clock,
    /// The success of this job.
    End(&'static str),
    /// Itself: it is kept running.
    Daemon,
}

/// What follows an attempt whose end nobody knows, as the trigger files say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLost {
    Retry,
    Fail,
    Hold,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    pub(crate) on_lost: OnLost,
    pub(crate) max_retries: u32,
}

/// An attempt more than losses at an ordinary pace of kills use up.
const RETRIES: u32 = 12;

/// The job whose schedule makes up for every time that was missed.
pub(crate) const ALL: &str = "cron";

/// The job of deliveries that is repeated when it is lost.
pub(crate) const REPEATED: &str = "retry";

/// What a job exits with when its plan says that this attempt fails.
pub(crate) const PLANNED_EXIT: i64 = 7;

/// How daemons are started again, as their trigger files say it: short enough that all of it comes about in a minute.
pub(crate) const BACKOFF: Duration = Duration::from_secs(1);
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(4);
pub(crate) const RESET_AFTER: Duration = Duration::from_secs(8);

pub(crate) const JOBS: [Job; 10] = [
    Job { name: "plain", source: Source::Hook("plain"), on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "twin", source: Source::Hook("plain"), on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "retry", source: Source::Hook("retry"), on_lost: OnLost::Retry, max_retries: RETRIES },
    Job { name: "then", source: Source::End("twin"), on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "long", source: Source::Hook("long"), on_lost: OnLost::Fail, max_retries: 0 },
    Job { name: "files", source: Source::File, on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "tick", source: Source::Clock, on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "cron", source: Source::Clock, on_lost: OnLost::Retry, max_retries: RETRIES },
    Job { name: "single", source: Source::Daemon, on_lost: OnLost::Hold, max_retries: 0 },
    Job { name: "steady", source: Source::Daemon, on_lost: OnLost::Retry, max_retries: 0 },
];

impl Job {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        JOBS.iter().find(|job| job.name == name)
    }

    pub(crate) fn of(source: Source) -> impl Iterator<Item = &'static Self> {
        JOBS.iter().filter(move |job| job.source == source)
    }

    /// At most one of its processes may ever start for one event.
    pub(crate) fn runs_once(&self) -> bool {
        self.max_retries == 0
    }
}

/// The hook to which delivery `n` goes.
pub(crate) fn hook_of(n: u64) -> &'static str {
    match mix(n) % 100 {
        0 => "long",
        1..30 => "retry",
        _ => "plain",
    }
}

/// Whether the second trigger on the hook `plain` wants delivery `n` as well.
pub(crate) fn has_twin(n: u64) -> bool {
    hook_of(n) == "plain" && mix(n ^ 1).is_multiple_of(10)
}

/// The triggers that must match delivery `n`.
pub(crate) fn triggers_of(n: u64) -> Vec<&'static str> {
    let mut triggers = vec![hook_of(n)];
    triggers.extend(has_twin(n).then_some("twin"));
    triggers
}

/// How many attempts of job `retry` fail for delivery `n`, by plan.
pub(crate) fn fails_first(n: u64) -> u32 {
    match n {
        n if n.is_multiple_of(97) => u32::MAX,
        n if n.is_multiple_of(7) => 2,
        n if n.is_multiple_of(3) => 1,
        _ => 0,
    }
}

/// Whether this run of a daemon ends badly, by plan, if nothing ends it before.
pub(crate) fn run_fails(event: &str) -> bool {
    chance(event).is_multiple_of(3)
}

/// How long a run of a daemon goes on if nothing ends it before: some are short, some last until it counts as well again.
pub(crate) fn run_lasts(event: &str) -> Duration {
    let chance = mix(chance(event));
    Duration::from_millis(if chance.is_multiple_of(2) { chance % 1_500 } else { 3_000 + chance % 9_000 })
}

fn chance(key: &str) -> u64 {
    key.bytes().fold(0, |state, byte| mix(state ^ u64::from(byte)))
}

/// How long an attempt works.
pub(crate) fn work(job: &str, key: &str) -> Duration {
    let chance = chance(key);
    match job {
        // Longer than a server takes to come back.
        "long" => Duration::from_millis(2_000 + chance % 3_000),
        // Long enough to be met by a fault now and then, also where it is repeated.
        "retry" if chance.is_multiple_of(8) => Duration::from_millis(400 + chance % 800),
        _ => Duration::from_millis(chance % 60),
    }
}
