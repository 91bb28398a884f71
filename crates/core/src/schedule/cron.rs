//! Cron lines: 5 fields, 6 with seconds in front, 7 with a year at the end, or a nickname. What is refused is
//! refused with the field that is wrong and what may stand there.

use std::ops::Range;

use croner::{
    Cron,
    errors::CronError as CronerError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    ZoneError,
    local::{self, ClockEffect},
    zone,
};

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

/// A compiled `[on.cron]`: 5 fields, 6 with seconds in front, 7 with a year at the end, or a nickname (`@daily`).
#[derive(Debug, Clone)]
pub struct CronSchedule {
    pub expression: String,
    pub timezone: String,
    pub dialect: Dialect,
    cron: Cron,
    zone: TimeZone,
    hours: Hours,
}

/// How the line names hours, which decides what a change of the clocks does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hours {
    /// `2`, `8-18`, `0,12`: each local time fires once.
    Named,
    /// `*`, `*/2`: it fires whenever the clock shows its time.
    Repeating,
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
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

impl CronSchedule {
    /// Without a time zone it is UTC.
    pub fn compile(expression: &str, timezone: Option<&str>, dialect: Dialect) -> Result<Self, CronError> {
        if expression.len() > MAX_EXPRESSION {
            return Err(refused(format!("an expression has at most {MAX_EXPRESSION} characters"), FORM));
        }
        let name = timezone.unwrap_or("UTC");
        let zone = zone(name)?;
        let cron = parser(dialect).parse(expression).map_err(|error| explain(expression, dialect, &error))?;
        let hours = hours(&cron);
        let (expression, timezone) = (expression.to_owned(), name.to_owned());
        let schedule = Self { expression, timezone, dialect, cron, zone, hours };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never { expression: schedule.expression }),
        }
    }

    /// The first fire after `after`; `None` when there is none any more.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = |local| self.next_local(local);
        match self.hours {
            Hours::Named => local::next_named(&self.zone, after, next),
            Hours::Repeating => local::next_shown(&self.zone, after, next),
        }
    }

    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What a change of the clocks has to do with the fire at `at`.
    pub fn effect(&self, at: Timestamp) -> Option<ClockEffect> {
        if self.hours == Hours::Named
            && let Some((start, end)) = local::gap_until(&self.zone, at)
        {
            let before = start.checked_sub(SignedDuration::from_secs(1)).ok()?;
            let named = self.next_local(before).filter(|named| *named < end);
            return named.map(ClockEffect::ShiftedFrom);
        }
        local::pass(&self.zone, at)
    }

    /// The first time that fits the line on a clock that never changes.
    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let after = after.to_zoned(TimeZone::UTC).ok()?;
        self.cron.find_next_occurrence(&after, false).ok().map(|next| next.datetime())
    }
}

fn hours(cron: &Cron) -> Hours {
    let field = &cron.pattern.hours;
    let whole_day = (0..24).step_by(field.step.max(1).into());
    if field.from_wildcard || field.values().into_iter().eq(whole_day) {
        Hours::Repeating
    } else {
        Hours::Named
    }
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
