//! `[on.daemon]`: a job that is kept running. It has no times, hence nothing of what other schedules say about them.

use std::time::Duration;

use super::reader::Table;
use crate::{
    duration,
    schedule::{DaemonRule, DaemonSchedule, Restart, ScheduleKind},
};

const SECOND: Duration = Duration::from_secs(1);

/// The longest wait, and the longest time to prove itself.
const DAY: Duration = Duration::from_hours(24);

const RESTART: [(&str, Restart); 2] = [("always", Restart::Always), ("on-failure", Restart::OnFailure)];

/// Reads one entry; `index` counts them from 0.
pub(super) fn read_daemon(index: usize, mut table: Table<'_>) -> DaemonSchedule {
    let defaults = DaemonRule::default();
    let restart = table.choice("restart", &RESTART).unwrap_or_default();
    let backoff = read_wait(&mut table, "backoff");
    let max_backoff = read_wait(&mut table, "max_backoff");
    let reset_after = read_wait(&mut table, "reset_after").unwrap_or(defaults.reset_after);
    let first = backoff.unwrap_or(defaults.backoff);
    if max_backoff.is_some_and(|most| most < first) {
        let help = format!("at least backoff, which is {}", duration::format(first));
        table.problem_at("max_backoff", "max_backoff is too short", help);
    }
    let max_backoff = max_backoff.unwrap_or(defaults.max_backoff.max(first));
    table.finish();
    let rule = DaemonRule { restart, backoff: first, max_backoff, reset_after };
    DaemonSchedule { name: format!("{} {}", ScheduleKind::Daemon.name(), index + 1), rule }
}

fn read_wait(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let wait = table.duration(key, SECOND)?;
    if wait > DAY {
        table.problem_at(key, format!("{key} is too long"), format!("at most {}", duration::format(DAY)));
    }
    Some(wait)
}
