//! `[on.cron]`, `[on.interval]` and `[on.once]`: when a clock starts a trigger, and what becomes of each time.

use std::time::Duration;

use jiff::Timestamp;

use super::{policy::read_policy, reader::Table, text::Text};
use crate::{
    duration,
    schedule::{
        ClockRule, ClockSchedule, CronError, CronSchedule, Dialect, FirePolicy, IntervalSchedule, Missed,
        OnceError, OnceSchedule, Rhythm, ScheduleKind,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Fires of a cron line whose distances are looked at, to bound its jitter: more than a year of a daily one.
const DISTANCES: usize = 400;

/// Reads one entry; `index` counts those of its kind from 0.
pub(super) fn read_clock(kind: ScheduleKind, index: usize, table: Table<'_>) -> Option<ClockSchedule> {
    let (rule, policy) = match kind {
        ScheduleKind::Interval => read_interval(table),
        ScheduleKind::Once => read_once(table),
        ScheduleKind::Cron | ScheduleKind::Daemon | ScheduleKind::Event => read_cron(table),
    }?;
    Some(ClockSchedule { name: format!("{} {}", kind.name(), index + 1), rule, policy, deadline: None })
}

fn read_cron(mut table: Table<'_>) -> Option<(ClockRule, FirePolicy)> {
    let expression = table.required("expression", "minute hour day month weekday: \"30 2 * * *\"");
    let timezone = table.text("timezone");
    let dialect = table.choice("dialect", &[("unix", Dialect::Unix), ("quartz", Dialect::Quartz)]);
    let zone = timezone.as_ref().map(|zone| zone.value.as_str());
    let policy = read_policy(&mut table, zone);
    let (start, end) = read_span(&mut table);
    table.finish_with(|table| {
        let expression = expression?;
        let compile = |zone| CronSchedule::compile(&expression.value, zone, dialect.unwrap_or_default());
        match compile(zone) {
            Ok(cron) => {
                let rule = ClockRule { rhythm: Rhythm::Cron(cron), start, end };
                bound_jitter(table, &rule, &policy);
                return Some((rule, policy));
            }
            Err(error) => {
                cron_problem(table, &expression, timezone.as_ref(), &error);
                if matches!(error, CronError::Zone(_))
                    && let Err(error) = compile(None)
                {
                    cron_problem(table, &expression, None, &error);
                }
            }
        }
        None
    })
}

pub(super) fn cron_problem(table: &Table<'_>, expression: &Text, timezone: Option<&Text>, error: &CronError) {
    let (span, help) = match error {
        CronError::Zone(zone) => (timezone.unwrap_or(expression).span.clone(), zone.help()),
        CronError::Expression { help, part, .. } => {
            let span = part.clone().map_or_else(|| expression.span.clone(), |part| expression.place(part));
            (span, help.clone())
        }
        CronError::Never { .. } => (expression.span.clone(), "no date fits it".to_owned()),
    };
    table.problem(span, error.to_string(), help);
}

fn read_interval(mut table: Table<'_>) -> Option<(ClockRule, FirePolicy)> {
    table.demand("every", "every = \"5m\"");
    let every = table.duration("every", SECOND);
    let policy = read_policy(&mut table, None);
    let (start, end) = read_span(&mut table);
    table.finish_with(|table| {
        let rule = ClockRule { rhythm: Rhythm::Interval(IntervalSchedule { every: every? }), start, end };
        bound_jitter(table, &rule, &policy);
        Some((rule, policy))
    })
}

/// From when and until when it fires.
fn read_span(table: &mut Table<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    let start = read_time(table, "start");
    let end = read_time(table, "end");
    if let (Some(from), Some(to)) = (start, end)
        && to < from
    {
        table.problem_at("end", "end is before start", "");
    }
    (start, end)
}

fn read_time(table: &mut Table<'_>, key: &'static str) -> Option<Timestamp> {
    let text = table.time_text(key)?;
    let time = text.value.parse().ok();
    if time.is_none() {
        let help = "a time with its offset: \"2026-12-24T18:00:00+01:00\"";
        table.problem(text.span, format!("{key} cannot be {:?}", text.value), help);
    }
    time
}

/// Jitter must not reach the next fire.
fn bound_jitter(table: &Table<'_>, rule: &ClockRule, policy: &FirePolicy) {
    let anchor = Timestamp::UNIX_EPOCH;
    let fires = std::iter::successors(rule.next_after(anchor, anchor), |at| rule.next_after(anchor, *at));
    let fires: Vec<Timestamp> =
        if policy.jitter.is_zero() { Vec::new() } else { fires.take(DISTANCES).collect() };
    let shortest = fires.windows(2).map(|pair| pair[1].duration_since(pair[0]).unsigned_abs()).min();
    if let Some(shortest) = shortest.filter(|shortest| policy.jitter >= *shortest) {
        let help =
            format!("shorter than the distance between two fires, which is {}", duration::format(shortest));
        table.problem_at("jitter", "jitter is too long", help);
    }
}

fn read_once(mut table: Table<'_>) -> Option<(ClockRule, FirePolicy)> {
    let form = "\"2026-12-24T18:00:00+01:00\", or without the offset and with a timezone";
    table.demand("at", &format!("at = {form}"));
    let at = table.time_text("at");
    let timezone = table.text("timezone");
    let missed =
        table.choice("missed", &[("latest", Missed::Latest), ("skip", Missed::Skip)]).unwrap_or_default();
    let missed_window = table.duration("missed_window", SECOND);
    table.finish_with(|table| {
        let at = at?;
        let error = match OnceSchedule::parse(&at.value, timezone.as_ref().map(|zone| zone.value.as_str())) {
            Ok(once) => {
                let policy = FirePolicy { missed, missed_window, ..FirePolicy::default() };
                return Some((Rhythm::Once(once).into(), policy));
            }
            Err(error) => error,
        };
        let zone_span = timezone.as_ref().map_or_else(|| at.span.clone(), |zone| zone.span.clone());
        let (span, help) = match &error {
            OnceError::Time { .. } => (at.span.clone(), form.to_owned()),
            OnceError::Both { .. } => (zone_span, "leave the offset or the timezone out".to_owned()),
            OnceError::Zone(zone) => (zone_span, zone.help()),
        };
        table.problem(span, error.to_string(), help);
        None
    })
}
