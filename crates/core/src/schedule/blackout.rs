//! Blackouts: windows of local time in which a schedule does not run.

use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use super::{Calendar, WEEKDAYS, local};

/// Windows that follow each other without a gap, at most; longer chains count as having ended.
const LONGEST_CHAIN: usize = 64;

/// What becomes of a fire inside a blackout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuringBlackout {
    /// It does not run. The default, so that nothing runs at a time that nobody has written down.
    #[default]
    Skip,
    /// One run at the end of the blackout stands for all times that fell into it.
    Delay,
}

/// One window: every day that `days` or `calendar` names from `from` until `to`, which is on the next day unless it is later.
#[derive(Debug, Clone, Serialize)]
pub struct Blackout {
    pub from: Time,
    /// `None`: midnight at the end of the day.
    pub to: Option<Time>,
    pub days: BlackoutDays,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Calendar>,
    pub timezone: String,
    #[serde(skip)]
    pub zone: TimeZone,
}

/// Days on which a window begins, counted from Monday = 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "Vec<&'static str>")]
pub struct BlackoutDays([bool; 7]);

impl From<BlackoutDays> for Vec<&'static str> {
    fn from(days: BlackoutDays) -> Self {
        WEEKDAYS.into_iter().zip(days.0).filter(|(_, chosen)| *chosen).map(|((name, _), _)| name).collect()
    }
}

impl BlackoutDays {
    pub const EVERY: Self = Self([true; 7]);

    #[must_use]
    pub fn of(days: &[Weekday]) -> Self {
        Self(WEEKDAYS.map(|(_, day)| days.contains(&day)))
    }

    fn contains(self, date: Date) -> bool {
        let place = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
        self.0.get(place).copied().unwrap_or_default()
    }
}

impl Blackout {
    /// When the window around `at` ends, if `at` is inside one.
    #[must_use]
    pub fn end_at(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        // One that began yesterday may last into today; a changed clock can make that two days.
        let days = [
            today.yesterday().ok(),
            Some(today),
            today.yesterday().ok().and_then(|day| day.yesterday().ok()),
        ];
        days.into_iter()
            .flatten()
            .filter_map(|day| self.window(day))
            .filter(|(start, end)| (*start..*end).contains(&at))
            .map(|(_, end)| end)
            .max()
    }

    fn window(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(day) && !self.calendar.as_ref().is_some_and(|calendar| calendar.contains(day))
        {
            return None;
        }
        let end = match self.to {
            Some(to) if to > self.from => day.to_datetime(to),
            Some(to) => day.tomorrow().ok()?.to_datetime(to),
            None => day.tomorrow().ok()?.to_datetime(Time::midnight()),
        };
        let start = day.to_datetime(self.from);
        Some((local::first_instant(&self.zone, start)?, local::first_instant(&self.zone, end)?))
    }
}

/// When it is over for all windows, if `at` is inside one: windows that touch are one.
pub(super) fn end_at(blackout: &[Blackout], at: Timestamp) -> Option<Timestamp> {
    let step = |at: &Timestamp| blackout.iter().filter_map(|window| window.end_at(*at)).max();
    std::iter::successors(step(&at), step).take(LONGEST_CHAIN).last()
}

/// Whether they leave no time at all.
#[must_use]
pub(crate) fn covers_everything(blackout: &[Blackout]) -> bool {
    let mut chain = std::iter::successors(Some(Timestamp::UNIX_EPOCH), |at| {
        blackout.iter().filter_map(|window| window.end_at(*at)).max()
    });
    // A window is a day at most: this is more than any week.
    chain.nth(LONGEST_CHAIN).is_some()
}
