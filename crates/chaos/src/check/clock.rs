//! Schedules: each time of the grid fires once; one that is missing must have been passed over for a reason.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Kind};
use crate::{
    history::Nanos,
    state::{EventRow, nanos},
};

/// Every schedule of a run fires once a second.
const SECOND: Nanos = 1_000_000_000;

/// What the scheduler calls busy rather than away: up to here it fires every time that it finds due.
const BUSY: Nanos = 5 * SECOND;

pub(super) fn check(case: &mut Case<'_>) {
    let mut schedules: BTreeMap<&str, Vec<&EventRow>> = BTreeMap::new();
    for event in case.events_of("schedule") {
        schedules.entry(&event.source).or_default().push(event);
    }
    for (name, mut fires) in schedules {
        fires.sort_by_key(|event| event.time);
        case.counts.fires += fires.len();
        once(case, name, &fires);
        on_the_grid(case, name, &fires);
        without_gaps(case, name, &fires);
    }
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

/// Missed times are passed over only by a fire that came too late for the first of them, and only after a fault.
fn without_gaps(case: &mut Case<'_>, name: &str, fires: &[&EventRow]) {
    for pair in fires.windows(2) {
        let (before, after) = (nanos(pair[0].time), nanos(pair[1].time));
        let missing = (after.saturating_sub(before) / SECOND).saturating_sub(1);
        if missing == 0 {
            continue;
        }
        let (earliest, at) = (before + SECOND, nanos(pair[1].received_at));
        let late = at.saturating_sub(earliest) > BUSY;
        let disturbed = case.run.faults.iter().any(|fault| (before..=at).contains(&fault.at));
        if late && disturbed {
            case.counts.passed_over += usize::try_from(missing).unwrap_or(usize::MAX);
        } else {
            let what = format!(
                "{name} has no fire between {} and {} ({missing} missing; fired {} ms after the first of them)",
                pair[0].time,
                pair[1].time,
                at.saturating_sub(earliest) / 1_000_000
            );
            case.report(Kind::Missed, what);
        }
    }
}
