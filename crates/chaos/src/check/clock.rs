//! Schedules: each time of the grid fires once; one that is missing was skipped for a reason that it says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Kind};
use crate::{
    history::Nanos,
    jobs::{ALL, Job, Source},
    state::{EventRow, nanos},
};

/// Every schedule of a run fires once a second.
const SECOND: Nanos = 1_000_000_000;

/// What the scheduler calls busy rather than away: up to here it fires every time that it finds due.
const BUSY: Nanos = 5 * SECOND;

/// How long a fault may take to show in what a clock does.
const RECENT: Nanos = 10 * SECOND;

pub(super) fn check(case: &mut Case<'_>) {
    let mut schedules: BTreeMap<&str, Vec<&EventRow>> = BTreeMap::new();
    for event in case.events_of("schedule").into_iter().filter(|event| !is_of_daemon(event)) {
        schedules.entry(&event.source).or_default().push(event);
    }
    for (name, mut fires) in schedules {
        fires.sort_by_key(|event| event.time);
        case.counts.fires += fires.iter().filter(|fire| !is_skipped(fire)).count();
        once(case, name, &fires);
        on_the_grid(case, name, &fires);
        without_gaps(case, name, &fires);
    }
}

/// A start of a daemon stands for no time.
fn is_of_daemon(event: &EventRow) -> bool {
    let mut jobs = event.decisions.iter().filter_map(|decision| Job::named(&decision.trigger));
    jobs.any(|job| job.source == Source::Daemon)
}

fn once(case: &mut Case<'_>, name: &str, fires: &[&EventRow]) {
    let mut seen = BTreeSet::new();
    for fire in fires {
        if !seen.insert(fire.time) {
            case.report(Kind::Doubled, format!("{name} fired twice for {}: event {}", fire.time, fire.id));
        }
    }
}

fn on_the_grid(case: &mut Case<'_>, name: &str, fires: &[&EventRow]) {
    let Some(first) = fires.first().map(|fire| nanos(fire.time)) else { return };
    for fire in fires.iter().filter(|fire| !(nanos(fire.time) - first).is_multiple_of(SECOND)) {
        let what = format!("{name} fired for {}, which is none of its times: event {}", fire.time, fire.id);
        case.report(Kind::Phantom, what);
    }
}

/// Times are missing only behind one that was skipped, which says that it stands for all up to the next.
fn without_gaps(case: &mut Case<'_>, name: &str, fires: &[&EventRow]) {
    for skipped in fires.iter().filter(|fire| is_skipped(fire)) {
        may_skip(case, name, skipped);
    }
    for pair in fires.windows(2) {
        let passed = nanos(pair[1].time).saturating_sub(nanos(pair[0].time)) / SECOND;
        if is_skipped(pair[0]) {
            case.counts.passed_over += usize::try_from(passed).unwrap_or(usize::MAX);
        } else if passed > 1 {
            let what = format!("{name} fired for {} and then for {}", pair[0].time, pair[1].time);
            case.report(Kind::Missed, what);
        }
    }
}

/// Only where the job does not make up for everything, only when it was too late, and only because of a fault.
fn may_skip(case: &mut Case<'_>, name: &str, skipped: &EventRow) {
    let (time, at) = (nanos(skipped.time), nanos(skipped.received_at));
    let allowed = skipped.decisions.iter().all(|decision| decision.trigger != ALL);
    let late = at.saturating_sub(time) > BUSY;
    let disturbed =
        case.run.faults.iter().any(|fault| (time.saturating_sub(RECENT)..=at).contains(&fault.at));
    if !(allowed && late && disturbed) {
        let late = at.saturating_sub(time) / 1_000_000;
        case.report(Kind::Missed, format!("{name} skipped {}, {late} ms late: {skipped:?}", skipped.time));
    }
}

fn is_skipped(fire: &EventRow) -> bool {
    fire.decisions.iter().any(|decision| decision.outcome == "skipped")
}
