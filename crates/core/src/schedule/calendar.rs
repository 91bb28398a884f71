//! Calendars: sets of days that have a name, such as the holidays of a bank, and that triggers share.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::{
    Span,
    civil::{Date, Weekday},
};
use serde::{Serialize, Serializer};

/// Days before and after Easter Sunday, at most: all movable feasts are nearer.
const FROM_EASTER: i16 = 100;

/// A day, or every day of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// `2026-12-25`
    Date(Date),
    /// `12-25`, of every year; `02-29` is only in leap years.
    Yearly { month: i8, day: i8 },
    /// `SAT`
    Weekday(Weekday),
    /// `11-THU#4`, the fourth Thursday of November; `05-MONL`, the last Monday of May (`nth` is -1).
    Nth { month: i8, weekday: Weekday, nth: i8 },
    /// `easter-2`: so many days from the Easter Sunday of the western churches.
    Easter(i16),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no day")]
pub struct DayError(String);

impl DayError {
    pub const HELP: &'static str = "days as in \"2026-12-25\", \"12-25\" (of every year), \"SAT\", \"11-THU#4\" (the \
                                    fourth Thursday of November), \"05-MONL\" (the last Monday of May), \"easter+1\"";
}

/// As cron lines name them.
pub(crate) const WEEKDAYS: [(&str, Weekday); 7] = [
    ("MON", Weekday::Monday),
    ("TUE", Weekday::Tuesday),
    ("WED", Weekday::Wednesday),
    ("THU", Weekday::Thursday),
    ("FRI", Weekday::Friday),
    ("SAT", Weekday::Saturday),
    ("SUN", Weekday::Sunday),
];

impl Day {
    #[must_use]
    pub fn contains(self, date: Date) -> bool {
        match self {
            Self::Date(day) => day == date,
            Self::Yearly { month, day } => (date.month(), date.day()) == (month, day),
            Self::Weekday(weekday) => date.weekday() == weekday,
            Self::Nth { month, weekday, nth } => {
                date.month() == month && date.nth_weekday_of_month(nth, weekday).is_ok_and(|day| day == date)
            }
            Self::Easter(days) => easter(date.year())
                .and_then(|easter| easter.checked_add(Span::new().days(days)).ok())
                .is_some_and(|day| day == date),
        }
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        read(text).ok_or_else(|| DayError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<Day> {
    if let Some(days) = text.strip_prefix("easter") {
        let days = if days.is_empty() { 0 } else { signed(days)? };
        return (-FROM_EASTER..=FROM_EASTER).contains(&days).then_some(Day::Easter(days));
    }
    if let Some(weekday) = weekday(text) {
        return Some(Day::Weekday(weekday));
    }
    let (first, rest) = text.split_once('-')?;
    if first.len() == 4 {
        return text.parse().ok().map(Day::Date);
    }
    let month = two_digits(first)?;
    if let Some(day) = two_digits(rest) {
        // A leap year has every day that there is.
        return Date::new(2024, month, day).ok().map(|_| Day::Yearly { month, day });
    }
    let (name, mark) = rest.split_at_checked(3)?;
    let weekday = weekday(name)?;
    let nth = match mark {
        "#1" => 1,
        "#2" => 2,
        "#3" => 3,
        "#4" => 4,
        "#5" => 5,
        "L" => -1,
        _ => return None,
    };
    (1..=12).contains(&month).then_some(Day::Nth { month, weekday, nth })
}

fn signed(text: &str) -> Option<i16> {
    text.starts_with(['+', '-']).then(|| text.parse().ok())?
}

fn two_digits(text: &str) -> Option<i8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn weekday(text: &str) -> Option<Weekday> {
    WEEKDAYS.into_iter().find(|(name, _)| *name == text).map(|(_, weekday)| weekday)
}

fn name(weekday: Weekday) -> &'static str {
    WEEKDAYS.into_iter().find(|(_, day)| *day == weekday).map_or("", |(name, _)| name)
}

/// Easter Sunday of the Gregorian calendar (Meeus, Astronomical Algorithms, chapter 8).
fn easter(year: i16) -> Option<Date> {
    let year = i32::from(year);
    let (golden, century, of_century) = (year % 19, year / 100, year % 100);
    let corrected = century - (century + 8) / 25 + 1;
    let moon = (19 * golden + century - century / 4 - corrected / 3 + 15) % 30;
    let sunday = (32 + 2 * (century % 4) + 2 * (of_century / 4) - moon - of_century % 4) % 7;
    let late = (golden + 11 * moon + 22 * sunday) / 451;
    let days = moon + sunday - 7 * late + 114;
    Date::new(i16::try_from(year).ok()?, i8::try_from(days / 31).ok()?, i8::try_from(days % 31 + 1).ok()?)
        .ok()
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Date(date) => date.fmt(f),
            Self::Yearly { month, day } => write!(f, "{month:02}-{day:02}"),
            Self::Weekday(weekday) => f.write_str(name(weekday)),
            Self::Nth { month, weekday, nth: -1 } => write!(f, "{month:02}-{}L", name(weekday)),
            Self::Nth { month, weekday, nth } => write!(f, "{month:02}-{}#{nth}", name(weekday)),
            Self::Easter(0) => f.write_str("easter"),
            Self::Easter(days) => write!(f, "easter{days:+}"),
        }
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of days by its name, which is all that is shown of it: the days are in the trigger's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub name: String,
    pub days: Arc<[Day]>,
}

impl Calendar {
    #[must_use]
    pub fn contains(&self, date: Date) -> bool {
        self.days.iter().any(|day| day.contains(date))
    }
}

impl Serialize for Calendar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_day_reads_back_as_it_was_written() {
        for text in
            ["2026-12-25", "12-25", "02-29", "SAT", "11-THU#4", "05-MONL", "easter", "easter-2", "easter+39"]
        {
            assert_eq!(day(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "-",
            "2026-02-30",
            "2026-12",
            "13-01",
            "02-30",
            "1-1",
            "00-MONL",
            "13-MONL",
            "05-MON",
            "05-MON#6",
            "05-MON#0",
            "05-MÖNL",
            "sat",
            "SATURDAY",
            "easter2",
            "easter+101",
            "easter-",
            "easter+-2",
            "12-25 ",
        ] {
            assert_eq!(text.parse::<Day>(), Err(DayError(text.to_owned())));
        }
    }

    #[test]
    fn days_of_every_year() {
        assert!(day("12-25").contains(date(2031, 12, 25)));
        assert!(!day("12-25").contains(date(2031, 12, 26)));
        assert!(day("02-29").contains(date(2028, 2, 29)));
        assert!(day("SUN").contains(date(2026, 11, 22)));
        assert!(!day("SUN").contains(date(2026, 11, 23)));
        // Thanksgiving and Memorial Day.
        assert!(day("11-THU#4").contains(date(2026, 11, 26)));
        assert!(!day("11-THU#4").contains(date(2026, 11, 19)));
        assert!(day("05-MONL").contains(date(2027, 5, 31)));
        assert!(!day("05-MONL").contains(date(2027, 5, 24)));
        assert!(!day("02-MON#5").contains(date(2026, 2, 23)));
    }

    /// Days that were, or will be, Easter Sunday; the earliest and the latest that there are among them.
    #[test]
    fn easter_sundays() {
        let sundays = [
            date(1818, 3, 22),
            date(1943, 4, 25),
            date(1961, 4, 2),
            date(2000, 4, 23),
            date(2008, 3, 23),
            date(2024, 3, 31),
            date(2025, 4, 20),
            date(2026, 4, 5),
            date(2027, 3, 28),
            date(2028, 4, 16),
            date(2038, 4, 25),
        ];
        for sunday in sundays {
            assert_eq!(easter(sunday.year()), Some(sunday));
        }
        for year in 1583..4100 {
            let sunday = easter(year).expect("a day");
            assert_eq!(sunday.weekday(), Weekday::Sunday);
            assert!((date(year, 3, 22)..=date(year, 4, 25)).contains(&sunday), "{sunday}");
        }
        assert!(day("easter-2").contains(date(2026, 4, 3)));
        assert!(day("easter+1").contains(date(2026, 4, 6)));
    }
}
