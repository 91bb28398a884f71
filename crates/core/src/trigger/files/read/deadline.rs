//! Reads `[[on.file.deadline]]`: files that must have come by a time.

use std::time::Duration;

use super::super::NameTemplate;

use crate::{
    schedule::{ClockSchedule, CronError, CronSchedule, Deadline, Dialect, FirePolicy, Rhythm},
    trigger::{
        calendar::{read_calendar, read_days},
        clock::cron_problem,
        reader::{Table, one_or_many},
        text::Text,
    },
};

/// Files that are counted, at most.
const MOST: i64 = 1000;

const MINUTE: Duration = Duration::from_mins(1);

/// `index` is the place of the file source among those of the trigger.
pub(super) fn read(index: usize, table: &mut Table<'_>) -> Vec<ClockSchedule> {
    let Some(value) = table.take("deadline") else { return Vec::new() };
    let entries = one_or_many(value).into_iter().enumerate();
    let entries = entries.filter_map(|(place, entry)| Some((place, table.as_table(entry, "deadline")?)));
    entries
        .flat_map(|(place, entry)| read_one(&format!("file {} deadline {}", index + 1, place + 1), entry))
        .collect()
}

/// The deadline, and its warning if it has one.
fn read_one(name: &str, mut table: Table<'_>) -> Vec<ClockSchedule> {
    let by = table.required("by", "minute hour day month weekday: by = \"0 9 * * MON-FRI\"");
    let timezone = table.text("timezone");
    let count = table.integer("count", 1..=MOST).unwrap_or(1);
    let window = table.duration("window", MINUTE).unwrap_or(Duration::from_hours(24));
    let grace = table.duration("grace", Duration::ZERO).unwrap_or(2 * MINUTE);
    let warn = table.duration("warn", MINUTE);
    if warn.is_some_and(|warn| warn >= window) {
        table.problem_at(
            "warn",
            "warn is not before the window begins",
            "less than window, which is \"24h\" by itself",
        );
    }
    let except = read_days(&mut table, "except");
    let calendar = read_calendar(&mut table);
    let expected = table.text("name");
    if let Some(text) = &expected {
        check_name(&table, text);
    }
    let read = table.finish_with(|table| {
        let by = by?;
        let zone = timezone.as_ref().map(|zone| zone.value.as_str());
        match CronSchedule::compile(&by.value, zone, Dialect::Unix) {
            Ok(cron) => {
                let deadline = Deadline {
                    count: u32::try_from(count).unwrap_or(1),
                    window,
                    grace,
                    name: expected.map(|text| text.value),
                    except,
                    calendar,
                    ahead: None,
                    zone: cron.zone().clone(),
                };
                Some((cron, deadline))
            }
            Err(error) => {
                cron_problem(table, &by, timezone.as_ref(), &error);
                if matches!(error, CronError::Zone(_))
                    && let Err(error) = CronSchedule::compile(&by.value, None, Dialect::Unix)
                {
                    cron_problem(table, &by, None, &error);
                }
                None
            }
        }
    });
    let Some((cron, deadline)) = read else { return Vec::new() };
    let schedule = |name: String, rule, deadline| {
        let policy = FirePolicy::default();
        ClockSchedule { name, rule: Rhythm::into(rule), policy, deadline: Some(deadline) }
    };
    let warning = warn.map(|by| {
        let deadline = Deadline { ahead: Some(by), grace: Duration::ZERO, ..deadline.clone() };
        schedule(format!("{name} warning"), Rhythm::Ahead { cron: cron.clone(), by }, deadline)
    });
    let own = schedule(name.to_owned(), Rhythm::Cron(cron), deadline);
    warning.into_iter().chain([own]).collect()
}

/// The name of a file that is not there yet is made of dates alone.
fn check_name(table: &Table<'_>, text: &Text) {
    let help = "such as \"balance_{date:%Y%m%d}.csv\"";
    if let Err(error) = NameTemplate::name(&text.value) {
        table.problem(text.span.clone(), format!("name: {error}"), help);
    } else if ["{name}", "{stem}", "{ext}"].iter().any(|hole| text.value.contains(hole)) {
        table.problem(text.span.clone(), "name: only {date:..} is replaced here", help);
    }
}
