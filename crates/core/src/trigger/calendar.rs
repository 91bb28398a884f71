//! `[calendars]`: sets of days that a trigger file brings along, each by its name, and the keys that name one.

use toml::de::DeTable;

use super::{
    Problem,
    problem::Problems,
    reader::{Sheet, Table},
    text::Text,
};
use crate::{
    schedule::{Calendar, Day, DayError},
    suggest,
};

/// Days of a calendar, at most.
const MOST: usize = 4096;

/// Reads `[calendars]` of a file, before anything that may name one.
pub(super) fn read_calendars(file: &mut Table<'_>) {
    let table = file.table("calendars");
    let entries = table.iter().flat_map(|table| {
        let entries = table.entries();
        entries.filter_map(|(name, value)| {
            let own = table.as_table(value, &format!("[calendars.{}]", name.value))?;
            Some(read_one(name.value, own))
        })
    });
    // It is read once.
    let _ = file.sheet.calendars.set(entries.collect());
}

fn read_one(name: String, mut table: Table<'_>) -> Calendar {
    table.text("about");
    table.demand("days", "days = [\"SAT\", \"SUN\", \"12-25\", \"easter+1\"]");
    let mut days = read_days(&mut table, "days");
    if days.len() > MOST {
        table.problem_at("days", format!("there are {} days", days.len()), format!("at most {MOST}"));
        days.truncate(MOST);
    }
    table.finish();
    Calendar { name, days: days.into() }
}

/// What is wrong with the text of a calendar's file, which has the keys of `[calendars.NAME]`.
pub(super) fn check(origin: &str, text: &str) -> Result<(), Problems> {
    let problems = |problems: Vec<Problem>| Problems { origin: origin.to_owned(), problems };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(problems(Problem::of_syntax(text, &errors)));
    }
    let sheet = Sheet::new(text);
    read_one(String::new(), Table::new(&sheet, "the calendar", 0..0, document.get_ref()));
    if sheet.has_problems() { Err(problems(sheet.into_problems())) } else { Ok(()) }
}

pub(super) fn read_days(table: &mut Table<'_>, key: &'static str) -> Vec<Day> {
    let days = table.texts(key).unwrap_or_default().into_iter();
    let day = |text: Text| match text.value.parse() {
        Ok(day) => Some(day),
        Err::<_, DayError>(error) => {
            table.problem(text.span, format!("{key}: {error}"), DayError::HELP);
            None
        }
    };
    days.filter_map(day).collect()
}

/// The calendar that a table names by its key `calendar`.
pub(super) fn read_calendar(table: &mut Table<'_>) -> Option<Calendar> {
    let text = table.text("calendar")?;
    let calendars = table.sheet.calendars.get().map_or(&[][..], Vec::as_slice);
    let found = calendars.iter().find(|calendar| calendar.name == text.value);
    if found.is_none() {
        let name = &text.value;
        let mut help = format!("write calendars/{name}.toml beside this file, or [calendars.{name}] in it");
        let names = calendars.iter().map(|calendar| calendar.name.as_str());
        if let Some(meant) = suggest::closest(name, names) {
            help = format!("did you mean {meant:?}? Otherwise {help}");
        }
        table.problem(text.span.clone(), format!("there is no calendar {name:?}"), help);
    }
    found.cloned()
}
