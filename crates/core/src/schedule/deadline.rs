//! Files that must have come by a time: `[[on.file.deadline]]`. A cron line drives it; at its time nothing runs, but
//! somebody counts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Calendar, Day};
use crate::trigger::NameTemplate;

#[derive(Debug, Clone, Serialize)]
pub struct Deadline {
    /// Files that must have come, at least.
    pub count: u32,
    /// How long before the deadline the first of them may have come.
    #[serde(with = "crate::duration")]
    pub window: Duration,
    /// How long after it is looked.
    #[serde(with = "crate::duration")]
    pub grace: Duration,
    /// Only files of this name count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days of the deadline's zone on which there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Day>,
    /// Likewise, those of a calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Calendar>,
    /// It is the warning so long before a deadline.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Duration>,
    #[serde(skip)]
    pub zone: TimeZone,
}

impl Deadline {
    /// The deadline that a time of the schedule is about.
    #[must_use]
    pub fn by(&self, run_at: Timestamp) -> Timestamp {
        let ahead = SignedDuration::try_from(self.ahead.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
        run_at.checked_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Whether nothing is expected on that day.
    #[must_use]
    pub fn is_excepted(&self, by: Timestamp) -> bool {
        let date = by.to_zoned(self.zone.clone()).date();
        self.except.iter().any(|day| day.contains(date))
            || self.calendar.as_ref().is_some_and(|calendar| calendar.contains(date))
    }

    /// From when on files count for the deadline at `by`.
    #[must_use]
    pub fn since(&self, by: Timestamp) -> Timestamp {
        let window = SignedDuration::try_from(self.window).unwrap_or(SignedDuration::MAX);
        by.checked_sub(window).unwrap_or(Timestamp::MIN)
    }

    /// When to look.
    #[must_use]
    pub fn looks_at(&self, by: Timestamp) -> Timestamp {
        let grace = SignedDuration::try_from(self.grace).unwrap_or(SignedDuration::MAX);
        by.checked_add(grace).unwrap_or(Timestamp::MAX)
    }

    /// The name that is waited for at that deadline.
    #[must_use]
    pub fn expected(&self, by: Timestamp) -> Option<String> {
        let template = NameTemplate::name(self.name.as_deref()?).ok()?;
        template.expand("", &by.to_zoned(self.zone.clone())).into_string().ok()
    }
}
