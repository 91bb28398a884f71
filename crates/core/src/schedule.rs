//! Schedules that a clock drives, and daemons. Pure: the time is an argument.
//!
//! `cron` reads lines, `interval` counts from an anchor, `once` is a single time; `local` says which instants the
//! local times of a zone are, also where a change of the clocks leaves some out or repeats them. `policy` says what
//! becomes of a time that has come, `rule` puts both together. `daemon` says what follows the end of a run that shall go on.

mod blackout;
mod calendar;
mod cron;
mod daemon;
mod deadline;
mod interval;
mod local;
mod once;
mod policy;
mod rule;
mod zone;

use serde::{Deserialize, Serialize};

pub(crate) use blackout::covers_everything;
pub use blackout::{Blackout, BlackoutDays, DuringBlackout};
pub(crate) use calendar::WEEKDAYS;
pub use calendar::{Calendar, Day, DayError};
pub use cron::{CronError, CronSchedule, Dialect};
pub use daemon::{AfterRun, DaemonRule, DaemonSchedule, Restart, RunEnd};
pub use deadline::Deadline;
pub use interval::IntervalSchedule;
pub use local::ClockEffect;
pub use once::{OnceError, OnceSchedule};
pub use policy::{FirePolicy, Missed, Overlap};
pub use rule::{ClockRule, ClockSchedule, Rhythm, Upcoming};
pub use zone::{ZoneError, zone};

/// The kinds of `sched_schedule.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    Cron,
    Interval,
    Once,
    Daemon,
    Event,
}

impl ScheduleKind {
    pub const ALL: [Self; 5] = [Self::Cron, Self::Interval, Self::Once, Self::Daemon, Self::Event];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Interval => "interval",
            Self::Once => "once",
            Self::Daemon => "daemon",
            Self::Event => "event",
        }
    }
}

#[cfg(test)]
mod tests;
