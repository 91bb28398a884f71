//! The calendars that lie beside trigger files.

use std::{collections::BTreeSet, path::Path};

use hetuflow_core::trigger::check_calendar;
use toml::Value;

use super::beside;

/// Below the folder of trigger files.
pub(super) const FOLDER: &str = "calendars";

/// The text of a trigger file with the calendars that it names and that lie in `calendars/` beside it. Blocking.
pub(super) fn with_calendars(text: &str, folder: &Path) -> Result<String, String> {
    // What is not TOML is told by the reader of trigger files.
    let Ok(file) = text.parse::<toml::Table>() else { return Ok(text.to_owned()) };
    let folder = folder.join(FOLDER);
    let own = file.get("calendars").and_then(Value::as_table);
    let mut names = BTreeSet::new();
    file.values().for_each(|value| collect(value, &mut names));
    let mut text = text.to_owned();
    for name in names {
        if own.is_some_and(|own| own.contains_key(name)) {
            continue;
        }
        if let Some(calendar) = beside::read(&folder, name)? {
            let origin = folder.join(format!("{name}.toml")).display().to_string();
            check_calendar(&origin, &calendar).map_err(|problems| problems.to_string())?;
            text = format!("{text}\n[calendars.{name}]\n{calendar}");
        }
    }
    Ok(text)
}

/// Every text under a key `calendar`, wherever it is.
fn collect<'v>(value: &'v Value, names: &mut BTreeSet<&'v str>) {
    match value {
        Value::Table(table) => {
            names.extend(table.get("calendar").and_then(Value::as_str));
            table.values().for_each(|value| collect(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WITH: &str = "[[on.cron]]\nblackout = [{ calendar = \"bank\" }]\n";

    fn folder(calendar: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(FOLDER)).expect("a folder");
        fs::write(folder.path().join(FOLDER).join("bank.toml"), calendar).expect("written");
        folder
    }

    #[test]
    fn a_file_takes_along_the_calendars_that_it_names() {
        let folder = folder("about = \"closed\"\ndays = [\"SUN\"]\n");
        let with = |text: &str| with_calendars(text, folder.path());
        let taken = "\n[calendars.bank]\nabout = \"closed\"\ndays = [\"SUN\"]\n";
        for text in [
            WITH,
            "[[on.file.deadline]]\ncalendar = \"bank\"\n",
            "[[trigger]]\n[[trigger.on.file]]\n[[trigger.on.file.deadline]]\ncalendar = \"bank\"\n",
            "[[on.cron]]\nblackout = [{ calendar = \"bank\" }]\n[calendars.other]\ndays = []\n",
        ] {
            let complete = with(text).expect("complete");
            assert_eq!(complete, format!("{text}{taken}"));
            complete.parse::<toml::Table>().expect("still TOML");
        }
        for same in [
            "[[on.cron]]\nblackout = [{ calendar = \"nobody\" }]\n",
            "[[on.cron]]\nblackout = [{ calendar = \"../bank\" }]\n",
            "[[on.cron]]\nblackout = [{ calendar = \"bank\" }]\n[calendars.bank]\ndays = []\n",
            "[on.cron]\nexpression = \"@daily\"\n",
            "not TOML",
        ] {
            assert_eq!(with(same).as_deref(), Ok(same));
        }
    }

    #[test]
    fn a_broken_calendar_is_told_with_its_own_path_and_line() {
        for (calendar, problem) in [
            ("days = [\"SUN\",\n\"31-12\"]", "bank.toml:2:1: days: \"31-12\" is no day"),
            ("dais = []", "bank.toml:1:1: the calendar lacks \"days\""),
            ("days = ", "bank.toml:1:"),
        ] {
            let folder = folder(calendar);
            let told = with_calendars(WITH, folder.path()).expect_err("broken");
            assert!(told.contains(problem), "{told}");
        }
    }
}
