//! Cron lines beside a walk along the clocks of every zone that jiff knows, over twenty years of their changes. The walk
//! shares nothing with the engine: it has its own lines and looks at one minute after the other.
//! `PROPTEST_CASES=2000 cargo test -p hetuflow-core zones` looks at more of them.

use std::collections::{BTreeSet, HashSet};

use jiff::{
    SignedDuration, Timestamp,
    civil::{DateTime, Weekday},
    tz::TimeZone,
};
use proptest::prelude::*;

use crate::schedule::{CronSchedule, Dialect};

/// A line as sets of numbers; an empty set is `*`.
#[derive(Debug, Clone, Default)]
struct Line {
    minutes: BTreeSet<i8>,
    hours: Hours,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    weekdays: BTreeSet<i8>,
}

#[derive(Debug, Clone)]
enum Hours {
    Every(i8),
    Named(BTreeSet<i8>),
}

impl Default for Hours {
    fn default() -> Self {
        Self::Every(1)
    }
}

impl Line {
    fn text(&self) -> String {
        let field = |set: &BTreeSet<i8>| match set.len() {
            0 => "*".to_owned(),
            _ => set.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let hours = match &self.hours {
            Hours::Every(1) => "*".to_owned(),
            Hours::Every(step) => format!("*/{step}"),
            Hours::Named(set) => field(set),
        };
        let (minutes, days) = (field(&self.minutes), field(&self.days));
        format!("{minutes} {hours} {days} {} {}", field(&self.months), field(&self.weekdays))
    }

    fn fits(&self, time: DateTime) -> bool {
        let open = |set: &BTreeSet<i8>, value: i8| set.is_empty() || set.contains(&value);
        let hour = match &self.hours {
            Hours::Every(step) => time.hour() % step == 0,
            Hours::Named(set) => set.contains(&time.hour()),
        };
        let weekday = Weekday::to_sunday_zero_offset(time.weekday());
        let day = if self.days.is_empty() || self.weekdays.is_empty() {
            open(&self.days, time.day()) && open(&self.weekdays, weekday)
        } else {
            self.days.contains(&time.day()) || self.weekdays.contains(&weekday)
        };
        hour && day && open(&self.minutes, time.minute()) && open(&self.months, time.month())
    }
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What the clock of the zone does to the line in (from, to], minute by minute.
fn walk(line: &Line, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let mut fires = Vec::new();
    let mut reached = zone.to_datetime(from);
    let mut time = from + MINUTE;
    while time <= to {
        let shown = zone.to_datetime(time);
        let fits = match line.hours {
            Hours::Every(_) => line.fits(shown),
            // Every minute that the clock reaches or passes for the first time.
            Hours::Named(_) => {
                let mut new = std::iter::successors(Some(reached + MINUTE), |minute| Some(*minute + MINUTE));
                new.by_ref().take_while(|minute| *minute <= shown).any(|minute| line.fits(minute))
            }
        };
        if fits {
            fires.push(time);
        }
        reached = reached.max(shown);
        time += MINUTE;
    }
    fires
}

fn check(line: &Line, zone_name: &str, from: Timestamp, to: Timestamp) {
    let text = line.text();
    let schedule = CronSchedule::compile(&text, Some(zone_name), Dialect::Unix);
    let schedule = schedule.unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut fires = Vec::new();
    let mut time = from;
    while let Some(next) = schedule.next_after(time).filter(|next| *next <= to) {
        fires.push(next);
        time = next;
    }
    let expected = walk(line, schedule.zone(), from, to);
    assert_eq!(fires, expected, "{text:?} in {zone_name} from {from} to {to}");
}

/// All changes of the clocks in the zone within twenty years.
fn changes(zone: &TimeZone) -> Vec<Timestamp> {
    let [from, to] =
        ["2010-01-01T00:00:00Z", "2030-01-01T00:00:00Z"].map(|time| time.parse().expect("a time"));
    zone.following(from).map(|change| change.timestamp()).take_while(|change| *change < to).collect()
}

fn zones() -> Vec<(String, TimeZone)> {
    let zones: Vec<_> = jiff::tz::db()
        .available()
        .map(|name| (name.to_string(), TimeZone::get(name.as_str()).expect("a known zone")))
        .collect();
    assert!(zones.len() > 400, "jiff knows {} zones", zones.len());
    zones
}

/// Those that differ: of several names for the same clock only the first is looked at.
fn distinct_zones() -> Vec<(String, TimeZone, Vec<Timestamp>)> {
    let mut seen = HashSet::new();
    let zones = zones().into_iter().map(|(name, zone)| {
        let changes = changes(&zone);
        (name, zone, changes)
    });
    zones
        .filter(|(_, zone, changes)| {
            let offset = |time: &Timestamp| zone.to_offset(*time).seconds();
            seen.insert((changes.clone(), changes.iter().map(offset).collect::<Vec<_>>()))
        })
        .collect()
}

fn set(values: &[i8]) -> BTreeSet<i8> {
    values.iter().copied().collect()
}

/// Lines that meet a change of the clocks at `at`: by its own hour, and those that repeat.
fn lines(zone: &TimeZone, at: Timestamp) -> Vec<Line> {
    let hour = |minutes: i64| zone.to_datetime(at + SignedDuration::from_mins(minutes)).hour();
    let around = set(&[hour(-60), hour(-1), hour(0), (hour(-1) + 1) % 24, (hour(0) + 1) % 24]);
    let named = |minutes: &[i8], hours: &BTreeSet<i8>| Line {
        minutes: set(minutes),
        hours: Hours::Named(hours.clone()),
        ..Line::default()
    };
    let weekday = Weekday::to_sunday_zero_offset(zone.to_datetime(at).weekday());
    vec![
        named(&[30], &set(&[(hour(-1) + 1) % 24])),
        Line { minutes: set(&[0, 20]), ..Line::default() },
        named(&[0, 10, 45], &around),
        Line { minutes: set(&[15]), hours: Hours::Every(2), ..Line::default() },
        named(&[15], &set(&[hour(-1)])),
        Line { weekdays: set(&[weekday]), ..named(&[0, 30], &around) },
        named(&[], &set(&[hour(0)])),
    ]
}

#[test]
fn every_zone_over_twenty_years() {
    let zones = distinct_zones();
    let all = std::env::var_os("PROPTEST_CASES").is_some();
    let mut looked_at = 0;
    for (n, (name, zone, changes)) in zones.iter().enumerate() {
        for (m, change) in changes.iter().enumerate() {
            let lines = lines(zone, *change);
            let start = (n + m) % lines.len();
            let chosen = |place: usize| all || place == start || place == (start + 3) % lines.len();
            for line in lines.iter().enumerate().filter(|(place, _)| chosen(*place)).map(|(_, line)| line) {
                check(
                    line,
                    name,
                    *change - SignedDuration::from_hours(2),
                    *change + SignedDuration::from_hours(4),
                );
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 4000, "{looked_at} changes of {} zones", zones.len());
}

fn numbers(from: i8, to: i8) -> impl Strategy<Value = BTreeSet<i8>> {
    proptest::collection::btree_set(from..=to, 1..4)
}

fn any_line() -> impl Strategy<Value = Line> {
    let hours = prop_oneof![
        3 => numbers(0, 23).prop_map(Hours::Named),
        2 => prop::sample::select(vec![1, 2, 3, 5]).prop_map(Hours::Every),
    ];
    let often = |set| prop_oneof![3 => Just(BTreeSet::new()), 1 => set];
    (
        numbers(0, 59),
        hours,
        often(numbers(1, 28).boxed()),
        often(numbers(1, 12).boxed()),
        often(numbers(0, 6).boxed()),
    )
        .prop_map(|(minutes, hours, days, months, weekdays)| Line {
            minutes,
            hours,
            days,
            months,
            weekdays,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Two days around any change of any zone, or anywhere in a zone without one.
    #[test]
    fn any_line_in_any_zone(line in any_line(), zone: prop::sample::Index, change: prop::sample::Index) {
        let zones = zones();
        let (name, zone) = zone.get(&zones);
        let changes = changes(zone);
        // Before 1972 there were offsets that are no whole minutes, which the walk by minutes would miss.
        let quiet = "2020-01-01T00:00:00Z".parse().expect("a time");
        let at = if changes.is_empty() { quiet } else { *change.get(&changes) };
        check(&line, name, at - SignedDuration::from_hours(24), at + SignedDuration::from_hours(26));
    }
}
