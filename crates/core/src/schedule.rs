//! Schedules that a clock drives: cron lines and intervals. Pure: the time is an argument.
//!
//! Around a change of the clocks a line with fixed hours and minutes fires once: after the gap in spring,
//! at the first of the two times in autumn. A line that repeats within the hour follows real time.

use std::{ops::Range, time::Duration};

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

const NICKNAMES: &str = "allowed: @yearly, @annually, @monthly, @weekly, @daily, @hourly";

const FORM: &str = "minute hour day month weekday, with seconds in front if six: \"30 2 * * *\"";

/// The fields and what may stand in them.
const FIELDS: [(&str, &str); 7] = [
    ("second", "0 to 59, lists 1,2, ranges 1-5, steps */5 or 0-30/5"),
    ("minute", "0 to 59, lists 1,2, ranges 1-5, steps */5 or 0-30/5"),
    ("hour", "0 to 23, lists 1,2, ranges 1-5, steps */5 or 0-12/5"),
    ("day", "1 to 31, L (last), 15W (weekday nearest), lists, ranges, steps */2"),
    ("month", "1 to 12 or JAN to DEC, lists, ranges, steps */2"),
    ("weekday", "SUN to SAT or 0 to 7, FRI#2 (second), FRIL (last), lists, ranges; in quartz 1 to 7"),
    ("year", "1 to 5000, lists, ranges, steps */2"),
];

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
    Expression {
        message: String,
        /// What is allowed there.
        help: String,
        /// The bytes of the expression that are wrong, where that is known.
        part: Option<Range<usize>>,
    },
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
            return Err(refused(format!("an expression has at most {MAX_EXPRESSION} characters"), FORM));
        }
        let name = timezone.unwrap_or("UTC");
        let zone = zone(name)?;
        let cron = parser(dialect).parse(expression).map_err(|error| explain(expression, dialect, &error))?;
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

fn refused(message: impl Into<String>, help: &str) -> CronError {
    CronError::Expression { message: message.into(), help: help.to_owned(), part: None }
}

/// croner says what is wrong but not where: the field that also fails alone is to blame.
fn explain(expression: &str, dialect: Dialect, error: &CronerError) -> CronError {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    match fields.as_slice() {
        [] => return refused("the expression is empty", FORM),
        [nickname] if nickname.starts_with('@') => {
            return refused(format!("{nickname:?} is no nickname"), NICKNAMES);
        }
        _ if !(5..=7).contains(&fields.len()) => {
            return refused(format!("an expression has 5 or 6 fields, not {}", fields.len()), FORM);
        }
        _ => {}
    }
    // Without seconds the first name is not used.
    let names = &FIELDS[usize::from(fields.len() == 5)..];
    let wrong = (0..fields.len()).find(|n| {
        let alone: Vec<&str> = (0..fields.len()).map(|m| if m == *n { fields[m] } else { "*" }).collect();
        parser(dialect).parse(&alone.join(" ")).is_err()
    });
    let Some(((name, allowed), field)) = wrong.and_then(|n| names.get(n).zip(fields.get(n))) else {
        return refused(format!("{expression:?}: {error}"), FORM);
    };
    let start = fields[..wrong.unwrap_or_default()]
        .iter()
        .fold(0, |at, before| at + expression[at..].find(before).unwrap_or_default() + before.len());
    let start = start + expression[start..].find(field).unwrap_or_default();
    CronError::Expression {
        message: format!("{name} cannot be {field:?}"),
        help: (*allowed).to_owned(),
        part: Some(start..start + field.len()),
    }
}

#[cfg(test)]
mod tests;
