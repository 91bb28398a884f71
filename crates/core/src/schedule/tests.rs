use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

mod policy;
mod zones;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn compile(expression: &str, zone: &str, dialect: Dialect) -> CronSchedule {
    CronSchedule::compile(expression, Some(zone), dialect)
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The next fires after `after`, in the zone's own time.
fn fires(expression: &str, zone: &str, dialect: Dialect, after: &str, count: usize) -> Vec<String> {
    let schedule = compile(expression, zone, dialect);
    let mut time = at(after);
    let mut fires = Vec::new();
    for _ in 0..count {
        time = schedule.next_after(time).expect("another fire");
        let zoned = time.to_zoned(schedule.zone().clone());
        fires.push(zoned.strftime("%a %F %T%:z").to_string());
    }
    fires
}

#[test]
fn expressions() {
    // A Friday.
    let check = |expression: &str, dialect: Dialect, expected: &[&str]| {
        let fires = fires(expression, "UTC", dialect, "2026-11-20T10:00:00.5Z", expected.len());
        let fires: Vec<&str> = fires.iter().map(|fire| fire.trim_end_matches("+00:00")).collect();
        assert_eq!(fires, expected, "{expression} {dialect:?}");
    };
    let (unix, quartz) = (Dialect::Unix, Dialect::Quartz);
    check("* * * * *", unix, &["Fri 2026-11-20 10:01:00", "Fri 2026-11-20 10:02:00"]);
    check("* * * * * *", unix, &["Fri 2026-11-20 10:00:01", "Fri 2026-11-20 10:00:02"]);
    check("30 2 * * *", unix, &["Sat 2026-11-21 02:30:00", "Sun 2026-11-22 02:30:00"]);
    check("0 0 12 * * ?", unix, &["Fri 2026-11-20 12:00:00", "Sat 2026-11-21 12:00:00"]);
    check("@daily", unix, &["Sat 2026-11-21 00:00:00"]);
    check("@weekly", unix, &["Sun 2026-11-22 00:00:00"]);
    check("0 9 * * MON-FRI", unix, &["Mon 2026-11-23 09:00:00", "Tue 2026-11-24 09:00:00"]);
    check("0 9 * * 0", unix, &["Sun 2026-11-22 09:00:00"]);
    check("0 9 * * 7", unix, &["Sun 2026-11-22 09:00:00"]);
    check("0 9 * * 1", unix, &["Mon 2026-11-23 09:00:00"]);
    check("0 9 * * 1", quartz, &["Sun 2026-11-22 09:00:00"]);
    check("0 9 ? * SUN", quartz, &["Sun 2026-11-22 09:00:00"]);
    check("0 0/20 * * * ?", quartz, &["Fri 2026-11-20 10:20:00", "Fri 2026-11-20 10:40:00"]);
    check("0 0 L * *", unix, &["Mon 2026-11-30 00:00:00", "Thu 2026-12-31 00:00:00"]);
    check(
        "0 0 15W * *",
        unix,
        &["Tue 2026-12-15 00:00:00", "Fri 2027-01-15 00:00:00", "Mon 2027-02-15 00:00:00"],
    );
    check("0 0 * * FRI#2", unix, &["Fri 2026-12-11 00:00:00"]);
    check("0 0 * * FRIL", unix, &["Fri 2026-11-27 00:00:00"]);
    // Day of the month or day of the week, as cron has it.
    check(
        "0 0 13 * FRI",
        unix,
        &[
            "Fri 2026-11-27 00:00:00",
            "Fri 2026-12-04 00:00:00",
            "Fri 2026-12-11 00:00:00",
            "Sun 2026-12-13 00:00:00",
        ],
    );
    check("0 0 29 2 *", unix, &["Tue 2028-02-29 00:00:00", "Sun 2032-02-29 00:00:00"]);
}

#[test]
fn a_change_of_the_clocks_neither_skips_nor_doubles_a_daily_line() {
    let check = |expression: &str, after: &str, expected: &[&str]| {
        let fires = fires(expression, "Europe/Berlin", Dialect::Unix, after, expected.len());
        assert_eq!(fires, expected, "{expression}");
    };
    // In spring 02:00 to 03:00 does not exist, in autumn it happens twice.
    let (spring, autumn) = ("2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z");
    check("30 2 * * *", spring, &["Sun 2026-03-29 03:00:00+02:00", "Mon 2026-03-30 02:30:00+02:00"]);
    check("30 2 * * *", autumn, &["Sun 2026-10-25 02:30:00+02:00", "Mon 2026-10-26 02:30:00+01:00"]);
    check("0 3 * * *", spring, &["Sun 2026-03-29 03:00:00+02:00", "Mon 2026-03-30 03:00:00+02:00"]);
    // A line that repeats follows real time.
    check(
        "0 * * * *",
        "2026-03-29T00:00:00Z",
        &["Sun 2026-03-29 03:00:00+02:00", "Sun 2026-03-29 04:00:00+02:00"],
    );
    check(
        "0 * * * *",
        "2026-10-24T23:00:00Z",
        &["Sun 2026-10-25 02:00:00+02:00", "Sun 2026-10-25 02:00:00+01:00", "Sun 2026-10-25 03:00:00+01:00"],
    );
    check(
        "*/30 2 * * *",
        "2026-10-24T23:59:00Z",
        &["Sun 2026-10-25 02:00:00+02:00", "Sun 2026-10-25 02:30:00+02:00", "Mon 2026-10-26 02:00:00+01:00"],
    );
    // Several times that a gap leaves out fire together, once, and so does the time right after it.
    check(
        "0,30 1-3 * * *",
        "2026-03-29T00:00:00Z",
        &["Sun 2026-03-29 01:30:00+01:00", "Sun 2026-03-29 03:00:00+02:00", "Sun 2026-03-29 03:30:00+02:00"],
    );
    check("0 */2 * * *", spring, &["Sat 2026-03-28 14:00:00+01:00"]);
    check(
        "0 */2 * * *",
        "2026-03-28T23:30:00Z",
        &["Sun 2026-03-29 04:00:00+02:00", "Sun 2026-03-29 06:00:00+02:00"],
    );
}

#[test]
fn unusual_changes_of_the_clocks() {
    let check = |expression: &str, zone: &str, after: &str, expected: &[&str]| {
        assert_eq!(
            fires(expression, zone, Dialect::Unix, after, expected.len()),
            expected,
            "{expression} {zone}"
        );
    };
    // Samoa went over the date line: 30 December 2011 did not exist.
    check(
        "30 2 * * *",
        "Pacific/Apia",
        "2011-12-29T12:30:00Z",
        &["Sat 2011-12-31 00:00:00+14:00", "Sat 2011-12-31 02:30:00+14:00", "Sun 2012-01-01 02:30:00+14:00"],
    );
    check("0 12 30 12 *", "Pacific/Apia", "2011-06-01T00:00:00Z", &["Sat 2011-12-31 00:00:00+14:00"]);
    // Gaps at midnight: the day begins at 01:00.
    check("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", &["Fri 2026-04-24 01:00:00+03:00"]);
    check("30 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", &["Sun 2026-03-29 01:00:00+03:00"]);
    // 01:00 becomes 00:00 again.
    check(
        "30 0 * * *",
        "America/Havana",
        "2026-10-31T12:00:00Z",
        &["Sun 2026-11-01 00:30:00-04:00", "Mon 2026-11-02 00:30:00-05:00"],
    );
    // Half an hour.
    check(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:44:00Z",
        &["Sun 2026-04-05 01:45:00+11:00", "Sun 2026-04-05 01:30:00+10:30", "Sun 2026-04-05 01:45:00+10:30"],
    );
    check("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &["Sun 2026-10-04 02:30:00+11:00"]);
}

#[test]
fn effects_are_told() {
    let check = |expression: &str, at: &str, expected: Option<ClockEffect>| {
        let schedule = compile(expression, "Europe/Berlin", Dialect::Unix);
        assert_eq!(schedule.effect(self::at(at)), expected, "{expression} {at}");
    };
    let named = jiff::civil::date(2026, 3, 29).at(2, 30, 0, 0);
    check("30 2 * * *", "2026-03-29T01:00:00Z", Some(ClockEffect::ShiftedFrom(named)));
    check("0 3 * * *", "2026-03-29T01:00:00Z", None);
    check("30 2 * * *", "2026-03-30T00:30:00Z", None);
    check("30 2 * * *", "2026-10-25T00:30:00Z", Some(ClockEffect::FirstOfTwo));
    check("30 * * * *", "2026-10-25T01:30:00Z", Some(ClockEffect::SecondOfTwo));
    check("0 * * * *", "2026-03-29T01:00:00Z", None);
}

#[test]
fn what_is_refused() {
    let check = |expression: &str, zone: Option<&str>, expected: &str| {
        let error = CronSchedule::compile(expression, zone, Dialect::Unix).expect_err(expression);
        assert_eq!(error.to_string(), expected);
    };
    check("0 0 30 2 *", None, "\"0 0 30 2 *\" never fires");
    check("0 0 31 4,6 *", None, "\"0 0 31 4,6 *\" never fires");
    check("* * * * *", Some("Europe/Belrin"), "\"Europe/Belrin\" is not a time zone");
    check("0 0  32 * *", None, "day cannot be \"32\"");
    check("60 * * * * *", None, "second cannot be \"60\"");
    check("22-2 * * * *", None, "minute cannot be \"22-2\"");
    check("@every 5m", None, "an expression has 5 or 6 fields, not 2");
    check(&"*".repeat(300), None, "an expression has at most 256 characters");
    let places = CronSchedule::compile(" 0 0  32 * *", None, Dialect::Unix);
    let Err(CronError::Expression { part, .. }) = places else { panic!("must be refused") };
    assert_eq!(part, Some(6..8));
}

#[test]
fn a_line_with_a_year_ends() {
    let schedule = compile("0 0 0 1 1 * 2030", "UTC", Dialect::Unix);
    assert_eq!(schedule.next_after(at("2026-01-01T00:00:00Z")), Some(at("2030-01-01T00:00:00Z")));
    assert_eq!(schedule.next_after(at("2030-01-01T00:00:00Z")), None);
}

#[test]
fn intervals_hang_on_their_anchor() {
    let anchor = at("2026-11-20T10:00:00Z");
    let every = |seconds| IntervalSchedule { every: Duration::from_secs(seconds) };
    let check = |seconds: u64, after: &str, expected: &str| {
        assert_eq!(
            every(seconds).next_after(anchor, at(after)),
            Some(at(expected)),
            "{seconds} after {after}"
        );
    };
    check(300, "2026-11-20T10:00:00Z", "2026-11-20T10:05:00Z");
    check(300, "2026-11-20T10:04:59.999Z", "2026-11-20T10:05:00Z");
    check(300, "2026-11-20T10:05:00Z", "2026-11-20T10:10:00Z");
    check(7, "2026-11-27T10:00:00Z", "2026-11-27T10:00:07Z");
    check(300, "2026-11-20T09:00:00Z", "2026-11-20T10:05:00Z");
    assert_eq!(every(0).next_after(anchor, anchor), None);
    assert_eq!(every(u64::MAX).next_after(anchor, anchor), None);
}

/// One field of an expression that both engines read the same.
fn field(max: u8, min: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|n| n.to_string()),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (1..=max / 2).prop_map(|n| format!("*/{n}")),
        1 => proptest::collection::btree_set(min..=max, 2..4)
            .prop_map(|set| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// The `cron` crate is the oracle for what both can read: six fields, in UTC, with one of day
    /// and weekday left open, weekdays by name.
    #[test]
    fn another_engine_agrees(
        (second, minute, hour) in (field(59, 0), field(59, 0), field(23, 0)),
        month in field(12, 1),
        day in prop_oneof![
            field(28, 1).prop_map(|day| (day, "*".to_owned())),
            prop::sample::select(vec!["MON", "SUN", "TUE-FRI", "SAT,SUN"]).prop_map(|day| ("*".to_owned(), day.to_owned())),
        ],
        start in 1_600_000_000_i64..2_000_000_000,
    ) {
        let expression = format!("{second} {minute} {hour} {} {month} {}", day.0, day.1);
        let ours = compile(&expression, "UTC", Dialect::Unix);
        let oracle = ::cron::Schedule::from_str(&expression).expect("the other engine reads it");
        let mut time = Timestamp::from_second(start).expect("in range");
        let start: DateTime<Utc> = DateTime::from_timestamp(start, 0).expect("in range");
        for expected in oracle.after(&start).take(5) {
            time = ours.next_after(time).expect("a fire");
            prop_assert_eq!(time.as_second(), expected.timestamp(), "{}", expression);
        }
    }

    /// Whatever the zone does, time only goes forward, and no fire is left out.
    #[test]
    fn fires_go_forward(
        expression in prop::sample::select(vec!["30 2 * * *", "0 * * * *", "*/7 1-3 * * *", "15 0 1 * *", "0 30 2 * * SUN"]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
        start in 1_600_000_000_i64..2_000_000_000,
        within in 0_i64..100_000,
    ) {
        let schedule = compile(expression, zone, Dialect::Unix);
        let start = Timestamp::from_second(start).expect("in range");
        let next = schedule.next_after(start).expect("a fire");
        prop_assert!(next > start);
        let between = (next.as_second() - start.as_second() - 1).min(within);
        let later = Timestamp::from_second(start.as_second() + between).expect("in range");
        prop_assert_eq!(schedule.next_after(later), Some(next));
    }

    #[test]
    fn no_expression_panics(expression in "[0-9*/,?LW#A-Z@ -]{0,30}", quartz: bool) {
        let dialect = if quartz { Dialect::Quartz } else { Dialect::Unix };
        let _ = CronSchedule::compile(&expression, None, dialect);
    }
}
