//! The keys that `[on.cron]` and `[on.interval]` share: missed times, jitter, blackouts, overlap.

use std::time::Duration;

use jiff::{civil::Time, tz::TimeZone};

use super::{
    calendar::read_calendar,
    reader::{Table, one_or_many},
    text::Text,
};
use crate::schedule::{
    Blackout, BlackoutDays, DuringBlackout, FirePolicy, Missed, Overlap, WEEKDAYS, covers_everything, zone,
};

const MISSED: [(&str, Missed); 3] =
    [("latest", Missed::Latest), ("skip", Missed::Skip), ("all", Missed::All)];

const DURING: [(&str, DuringBlackout); 2] =
    [("skip", DuringBlackout::Skip), ("delay", DuringBlackout::Delay)];

const OVERLAP: [(&str, Overlap); 5] = [
    ("allow", Overlap::Allow),
    ("skip", Overlap::Skip),
    ("queue_one", Overlap::QueueOne),
    ("queue_all", Overlap::QueueAll),
    ("cancel_old", Overlap::CancelOld),
];

const SECOND: Duration = Duration::from_secs(1);

const WINDOW: &str = "blackout = [{ from = \"22:00\", to = \"06:00\", days = [\"SAT\"] }]";

/// `timezone` is the one that windows without their own have.
pub(super) fn read_policy(table: &mut Table<'_>, timezone: Option<&str>) -> FirePolicy {
    let policy = FirePolicy {
        missed: table.choice("missed", &MISSED).unwrap_or_default(),
        missed_window: table.duration("missed_window", SECOND),
        jitter: table.duration("jitter", Duration::ZERO).unwrap_or_default(),
        blackout: read_blackout(table, timezone),
        during_blackout: table.choice("during_blackout", &DURING).unwrap_or_default(),
        overlap: table.choice("overlap", &OVERLAP).unwrap_or_default(),
    };
    if policy.missed == Missed::Skip && policy.missed_window.is_some() {
        let message = "missed = \"skip\" makes up for nothing, so that it has no window";
        table.problem_at("missed_window", message, "leave it out, or write missed = \"latest\" or \"all\"");
    }
    if policy.blackout.is_empty() && table.has("during_blackout") && !table.has("blackout") {
        table.problem_at("during_blackout", "there is no blackout", WINDOW);
    }
    if covers_everything(&policy.blackout) {
        table.problem_at("blackout", "the blackout leaves no time", "");
    }
    policy
}

fn read_blackout(table: &mut Table<'_>, timezone: Option<&str>) -> Vec<Blackout> {
    let Some(value) = table.take("blackout") else { return Vec::new() };
    one_or_many(value)
        .into_iter()
        .filter_map(|window| read_window(table.as_table(window, "blackout")?, timezone))
        .collect()
}

fn read_window(mut table: Table<'_>, timezone: Option<&str>) -> Option<Blackout> {
    let (from, to) = (table.time_text("from"), table.time_text("to"));
    let days = table.choices("days", &WEEKDAYS).unwrap_or_default();
    let calendar = read_calendar(&mut table);
    let own = table.text("timezone");
    table.finish_with(|table| {
        let every_day = days.is_empty() && !table.has("calendar");
        if every_day && !table.has("from") && !table.has("to") {
            table.problem(table.span.clone(), "the window says neither time nor days", WINDOW);
        }
        let from = from.map_or(Some(Time::midnight()), |text| time_of(table, &text));
        let to = match to {
            Some(text) if text.value == "24:00" => Some(None),
            Some(text) => time_of(table, &text).map(Some),
            None => Some(None),
        };
        let name = own.as_ref().map(|zone| zone.value.as_str()).or(timezone).unwrap_or("UTC");
        let zone = match (zone(name), own.as_ref()) {
            (Ok(zone), _) => zone,
            (Err(error), Some(text)) => {
                table.problem(text.span.clone(), error.to_string(), error.help());
                TimeZone::UTC
            }
            // The schedule's own, which is reported where it stands.
            (Err(_), None) => TimeZone::UTC,
        };
        let days = if every_day { BlackoutDays::EVERY } else { BlackoutDays::of(&days) };
        Some(Blackout { from: from?, to: to?, days, calendar, timezone: name.to_owned(), zone })
    })
}

fn time_of(table: &Table<'_>, text: &Text) -> Option<Time> {
    let time = text.value.parse().ok();
    if time.is_none() {
        table.problem(text.span.clone(), format!("{:?} is no time of the day", text.value), "\"22:00\"");
    }
    time
}
