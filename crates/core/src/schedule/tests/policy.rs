//! Blackouts, jitter, single times, and what is shown of the next fires.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Weekday};
use proptest::prelude::*;

use super::at;
use crate::schedule::{
    Blackout, BlackoutDays, Calendar, ClockRule, ClockSchedule, CronSchedule, Dialect, DuringBlackout,
    FirePolicy, IntervalSchedule, OnceSchedule, Rhythm, covers_everything, zone,
};

fn window(from: &str, to: Option<&str>, days: &[Weekday], timezone: &str) -> Blackout {
    Blackout {
        from: from.parse().expect("a time"),
        to: to.map(|to| to.parse().expect("a time")),
        days: if days.is_empty() { BlackoutDays::EVERY } else { BlackoutDays::of(days) },
        calendar: None,
        timezone: timezone.to_owned(),
        zone: zone(timezone).expect("a zone"),
    }
}

fn dark(windows: Vec<Blackout>, during_blackout: DuringBlackout) -> FirePolicy {
    FirePolicy { blackout: windows, during_blackout, ..FirePolicy::default() }
}

#[test]
fn blackouts_end() {
    let check = |windows: &[Blackout], time: &str, expected: Option<&str>| {
        let policy = dark(windows.to_vec(), DuringBlackout::Skip);
        assert_eq!(policy.blackout_end(at(time)), expected.map(at), "{time}");
    };
    let night = [window("22:00", Some("06:00"), &[], "Europe/Berlin")];
    check(&night, "2026-11-20T20:59:59Z", None);
    check(&night, "2026-11-20T21:00:00Z", Some("2026-11-21T05:00:00Z"));
    check(&night, "2026-11-21T04:59:59.999Z", Some("2026-11-21T05:00:00Z"));
    check(&night, "2026-11-21T05:00:00Z", None);
    // The night in which the clocks change is an hour shorter.
    check(&night, "2026-03-28T21:00:00Z", Some("2026-03-29T04:00:00Z"));
    // Days name the beginning; the 20th is a Friday.
    let friday = [window("22:00", Some("06:00"), &[Weekday::Friday], "UTC")];
    check(&friday, "2026-11-21T03:00:00Z", Some("2026-11-21T06:00:00Z"));
    check(&friday, "2026-11-20T03:00:00Z", None);
    // Windows that touch are one.
    let weekend = [Weekday::Saturday, Weekday::Sunday];
    let both = [window("00:00", None, &weekend, "UTC"), window("22:00", Some("06:00"), &[], "UTC")];
    check(&both, "2026-11-20T22:00:00Z", Some("2026-11-23T06:00:00Z"));
    check(
        &[window("08:00", Some("08:00"), &[Weekday::Friday], "UTC")],
        "2026-11-21T07:00:00Z",
        Some("2026-11-21T08:00:00Z"),
    );
    // The days of a calendar alone, and beside others: the 25th is a Friday.
    let christmas = Calendar { name: "holidays".to_owned(), days: ["12-25".parse().expect("a day")].into() };
    let closed = |days| Blackout {
        calendar: Some(christmas.clone()),
        days,
        ..window("00:00", None, &[], "Europe/Berlin")
    };
    let holidays = [closed(BlackoutDays::of(&[]))];
    check(&holidays, "2026-12-24T22:59:59Z", None);
    check(&holidays, "2026-12-24T23:00:00Z", Some("2026-12-25T23:00:00Z"));
    check(&[closed(BlackoutDays::of(&weekend))], "2026-12-24T23:00:00Z", Some("2026-12-27T23:00:00Z"));
    // A bound that the clock leaves out is where the gap ends.
    check(
        &[window("02:30", Some("04:00"), &[], "Europe/Berlin")],
        "2026-03-29T01:00:00Z",
        Some("2026-03-29T02:00:00Z"),
    );
}

#[test]
fn a_blackout_leaves_some_time() {
    assert!(covers_everything(&[window("08:00", Some("08:00"), &[], "UTC")]));
    assert!(covers_everything(&[
        window("00:00", Some("12:00"), &[], "UTC"),
        window("12:00", None, &[], "UTC")
    ]));
    assert!(!covers_everything(&[window("00:00", Some("23:59"), &[], "UTC")]));
    assert!(!covers_everything(&[]));
}

#[test]
fn once_is_an_instant_or_a_local_time() {
    let check = |text: &str, zone: Option<&str>, expected: &str| {
        assert_eq!(OnceSchedule::parse(text, zone).map(|once| once.at), Ok(at(expected)), "{text}");
    };
    check("2026-12-24T18:00:00+01:00", None, "2026-12-24T17:00:00Z");
    check("2026-12-24T18:00:00", None, "2026-12-24T18:00:00Z");
    check("2026-12-24 18:00", Some("Europe/Berlin"), "2026-12-24T17:00:00Z");
    check("2026-03-29T02:30:00", Some("Europe/Berlin"), "2026-03-29T01:00:00Z");
    check("2026-10-25T02:30:00", Some("Europe/Berlin"), "2026-10-25T00:30:00Z");
    let once = OnceSchedule::parse("2026-12-24T18:00:00Z", None).expect("a time");
    assert_eq!(once.next_after(at("2026-12-24T17:59:59.999Z")), Some(once.at));
    assert_eq!(once.next_after(once.at), None);
}

#[test]
fn nothing_fires_before_the_start_or_after_the_end() {
    let fires = |rhythm: Rhythm, anchor: &str| {
        let (start, end) = (Some(at("2026-01-01T10:00:00Z")), Some(at("2026-01-01T12:00:00Z")));
        let rule = ClockRule { rhythm, start, end };
        let first = rule.next_after(at(anchor), at("2025-06-01T00:00:00Z"));
        let fires = std::iter::successors(first, |time| rule.next_after(at(anchor), *time));
        fires.map(|time| time.to_string()).collect::<Vec<_>>()
    };
    let interval = || Rhythm::Interval(IntervalSchedule { every: Duration::from_mins(45) });
    let expected = ["2026-01-01T10:00:00Z", "2026-01-01T10:45:00Z", "2026-01-01T11:30:00Z"];
    assert_eq!(fires(interval(), "2025-12-31T23:59:00Z"), expected);
    assert_eq!(fires(interval(), "2026-01-01T11:00:00Z"), expected, "also when it is made later");
    let hourly = CronSchedule::compile("0 * * * *", None, Dialect::Unix).expect("a line");
    let hours = ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"];
    assert_eq!(fires(Rhythm::Cron(hourly), "2025-12-31T23:59:00Z"), hours);
}

#[test]
fn the_next_fires_are_shown_as_they_will_run() {
    let cron = CronSchedule::compile("30 */4 * * *", Some("Europe/Berlin"), Dialect::Unix).expect("a line");
    let shown = |during| {
        let policy = dark(vec![window("22:00", Some("06:00"), &[], "Europe/Berlin")], during);
        let schedule = ClockSchedule {
            name: "cron 1".to_owned(),
            rule: Rhythm::Cron(cron.clone()).into(),
            policy,
            deadline: None,
        };
        let upcoming = schedule.upcoming(at("2026-01-01T00:00:00Z"), "x", at("2026-11-20T19:30:00Z"), 4);
        upcoming
            .into_iter()
            .map(|fire| {
                (fire.local.strftime("%d %H:%M").to_string(), fire.starts_at.map(|at| at.to_string()))
            })
            .collect::<Vec<_>>()
    };
    let fire = |local: &str, starts: Option<&str>| (local.to_owned(), starts.map(str::to_owned));
    let first = fire("20 20:30", Some("2026-11-20T19:30:00Z"));
    let day = fire("21 08:30", Some("2026-11-21T07:30:00Z"));
    assert_eq!(
        shown(DuringBlackout::Skip),
        [first.clone(), fire("21 00:30", None), fire("21 04:30", None), day.clone()]
    );
    let moved = fire("21 00:30", Some("2026-11-21T05:00:00Z"));
    assert_eq!(shown(DuringBlackout::Delay), [first, moved, fire("21 04:30", None), day]);
}

#[test]
fn jitter_is_spread_over_all_of_its_range() {
    let policy = FirePolicy { jitter: Duration::from_mins(1), ..FirePolicy::default() };
    let start = at("2026-11-20T10:00:00Z");
    let seconds = |n: i64| {
        let time = start + SignedDuration::from_mins(5 * n);
        policy.jittered("default/deploy/cron 1", time, None).duration_since(time).as_secs()
    };
    let spread: std::collections::BTreeSet<i64> = (0..1000).map(seconds).collect();
    assert!(spread.len() >= 60, "{spread:?}");
    assert_eq!(seconds(7), seconds(7));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Runs keep the order of their times, whatever the jitter.
    #[test]
    fn jitter_stays_before_the_next_fire(seed in "[a-z]{1,8}", every in 1_u64..600, jitter in 0_u64..10_000, n in 0_i64..1_000_000) {
        let policy = FirePolicy { jitter: Duration::from_secs(jitter), ..FirePolicy::default() };
        let interval = IntervalSchedule { every: Duration::from_secs(every) };
        let time = Timestamp::from_second(n * 600).expect("a time");
        let time = interval.next_after(Timestamp::UNIX_EPOCH, time).expect("a fire");
        let next = interval.next_after(Timestamp::UNIX_EPOCH, time);
        let start = policy.jittered(&seed, time, next);
        prop_assert!(start >= time && Some(start) < next);
        prop_assert!(start <= time + SignedDuration::try_from(policy.jitter).expect("a duration"));
        prop_assert_eq!(start, policy.jittered(&seed, time, next));
    }
}
