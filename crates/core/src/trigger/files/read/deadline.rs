//! Reads `[[on.file.deadline]]`: files that must have come by a time.

use std::time::Duration;

use super::super::NameTemplate;
use crate::{
    schedule::{ClockSchedule, CronError, CronSchedule, Deadline, Dialect, FirePolicy, Rhythm},
    trigger::{
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
        .filter_map(|(place, entry)| read_one(format!("file {} deadline {}", index + 1, place + 1), entry))
        .collect()
}

fn read_one(name: String, mut table: Table<'_>) -> Option<ClockSchedule> {
    let by = table.required("by", "minute hour day month weekday: by = \"0 9 * * MON-FRI\"");
    let timezone = table.text("timezone");
    let count = table.integer("count", 1..=MOST).unwrap_or(1);
    let window = table.duration("window", MINUTE).unwrap_or(Duration::from_hours(24));
    let grace = table.duration("grace", Duration::ZERO).unwrap_or(2 * MINUTE);
    let expected = table.text("name");
    if let Some(text) = &expected {
        check_name(&table, text);
    }
    table.finish_with(|table| {
        let by = by?;
        let zone = timezone.as_ref().map(|zone| zone.value.as_str());
        match CronSchedule::compile(&by.value, zone, Dialect::Unix) {
            Ok(cron) => {
                let deadline = Deadline {
                    count: u32::try_from(count).unwrap_or(1),
                    window,
                    grace,
                    name: expected.map(|text| text.value),
                    zone: cron.zone().clone(),
                };
                let (rule, policy) = (Rhythm::Cron(cron).into(), FirePolicy::default());
                Some(ClockSchedule { name, rule, policy, deadline: Some(deadline) })
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
    })
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
