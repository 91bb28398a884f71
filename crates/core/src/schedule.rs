//! Schedules that a clock drives: cron lines and intervals. Pure: the time is an argument.
//!
//! Around a change of the clocks a line with fixed hours and minutes fires once: after the gap in spring,
//! at the first of the two times in autumn. A line that repeats within the hour follows real time.

use std::time::Duration;

use croner::{
    Cron,
    errors::CronError as CronerError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::suggest;

/// Bytes of an expression, at most.
const MAX_EXPRESSION: usize = 256;

const NICKNAMES: &str = "@yearly, @annually, @monthly, @weekly, @daily, @hourly";

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

/// A compiled `[on.cron]`: 5 fields, 6 with seconds in front, 7 with a year at the end, or a nickname (`@daily`).
#[derive(Debug, Clone)]
pub struct CronSchedule {
    pub expression: String,
    pub timezone: String,
    pub missed: Missed,
    pub dialect: Dialect,
    cron: Cron,
    zone: TimeZone,
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
    /// Weekday numbers count from Sunday = 1, and `0/5` means "every 5, from 0".
    Quartz,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("{message}")]
    Expression { message: String },
    /// It is well formed, and its time never comes: February 30th.
    #[error("{expression:?} never fires")]
    Never { expression: String },
    #[error("{name:?} is not a time zone")]
    Zone {
        name: String,
        /// The zone that may have been meant.
        close: Option<String>,
    },
}

impl CronSchedule {
    /// Without a time zone it is UTC.
    pub fn compile(
        expression: &str,
        timezone: Option<&str>,
        dialect: Dialect,
        missed: Missed,
    ) -> Result<Self, CronError> {
        if expression.len() > MAX_EXPRESSION {
            let message = format!("an expression has at most {MAX_EXPRESSION} characters");
            return Err(CronError::Expression { message });
        }
        let name = timezone.unwrap_or("UTC");
        let zone = zone(name)?;
        let cron = parser(dialect)
            .parse(expression)
            .map_err(|error| CronError::Expression { message: explain(expression, &error) })?;
        let schedule = Self {
            expression: expression.to_owned(),
            timezone: name.to_owned(),
            missed,
            dialect,
            cron,
            zone,
        };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never { expression: expression.to_owned() }),
        }
    }

    /// The first fire after `after`; `None` when there is none any more.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let start = after.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&start, false).ok()?;
        Some(next.timestamp())
    }
}

impl IntervalSchedule {
    /// The first fire after `after`; never the anchor itself.
    pub fn next_after(&self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        let every = i128::try_from(self.every.as_nanos()).ok().filter(|every| *every > 0)?;
        let elapsed = after.as_nanosecond() - anchor.as_nanosecond();
        let rounds = elapsed.div_euclid(every).max(0) + 1;
        let nanos = rounds.checked_mul(every)?.checked_add(anchor.as_nanosecond())?;
        Timestamp::from_nanosecond(nanos).ok()
    }
}

fn zone(name: &str) -> Result<TimeZone, CronError> {
    TimeZone::get(name).map_err(|_| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        // `Berlin` means `Europe/Berlin` more than it means `Merlin`.
        let city = names
            .iter()
            .find(|known| known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name)));
        let close =
            city.map(String::as_str).or_else(|| suggest::closest(name, names.iter().map(String::as_str)));
        CronError::Zone { name: name.to_owned(), close: close.map(str::to_owned) }
    })
}

fn parser(dialect: Dialect) -> CronParser {
    let quartz = dialect == Dialect::Quartz;
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Optional)
        .alternative_weekdays(quartz)
        .sloppy_ranges(quartz)
        .build()
}

fn explain(expression: &str, error: &CronerError) -> String {
    let fields = expression.split_whitespace().count();
    match error {
        CronerError::EmptyPattern => "the expression is empty".to_owned(),
        CronerError::InvalidPattern(_) if expression.trim().starts_with('@') => {
            format!("{expression:?} is no nickname: {NICKNAMES}")
        }
        CronerError::InvalidPattern(_) if !(5..=7).contains(&fields) => {
            format!(
                "an expression has 5 fields (minute hour day month weekday) or 6 with seconds in front, not {fields}"
            )
        }
        CronerError::InvalidPattern(message)
        | CronerError::IllegalCharacters(message)
        | CronerError::ComponentError(message) => {
            format!("{expression:?}: {}", message.trim_end_matches('.').replace("CronPattern", "it"))
        }
        CronerError::InvalidDate | CronerError::InvalidTime | CronerError::TimeSearchLimitExceeded => {
            format!("{expression:?}: {error}")
        }
    }
}

#[cfg(test)]
mod tests;
