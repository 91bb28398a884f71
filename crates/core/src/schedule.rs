//! Schedules that a clock drives. Pure: the time is an argument.
//!
//! `cron` reads lines, `local` says which instants the local times of a zone are (and what becomes of those that a
//! change of the clocks leaves out or repeats), `interval` counts from an anchor.

mod cron;
mod interval;
mod local;

use serde::{Deserialize, Serialize};

pub use cron::{CronError, CronSchedule, Dialect};
pub use interval::IntervalSchedule;
pub use local::ClockEffect;

/// The kinds of `sched_schedule.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    Cron,
    Interval,
    Daemon,
    Event,
}

impl ScheduleKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Interval => "interval",
            Self::Daemon => "daemon",
            Self::Event => "event",
        }
    }
}

/// What happens to fires whose time passed while no server ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One fire stands for all that were missed.
    #[default]
    Latest,
    Skip,
}

#[cfg(test)]
mod tests;
