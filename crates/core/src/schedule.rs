//! Schedules that a clock drives: cron lines and intervals. Pure: the time is an argument.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// A compiled `[on.cron]`.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    pub expression: String,
    pub timezone: String,
    pub missed: Missed,
}

/// `[on.interval]`: fires at `anchor + n * every`, never at "last + every", so that it does not drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalSchedule {
    pub every: Duration,
    pub missed: Missed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Weekday numbers count from Sunday = 0.
    #[default]
    Unix,
    /// Weekday numbers count from Sunday = 1.
    Quartz,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(pub String);

impl CronSchedule {
    pub fn compile(
        _expression: &str,
        _timezone: Option<&str>,
        _dialect: Dialect,
        _missed: Missed,
    ) -> Result<Self, CronError> {
        todo!()
    }

    /// The first fire after `after`; `None` when there is none any more.
    pub fn next_after(&self, _after: Timestamp) -> Option<Timestamp> {
        todo!()
    }
}

impl IntervalSchedule {
    /// The first fire after `after`.
    pub fn next_after(&self, _anchor: Timestamp, _after: Timestamp) -> Option<Timestamp> {
        todo!()
    }
}
