//! Reads `[on.file]`.

mod content;
mod deadline;
mod fate;
mod order;
mod pieces;

use std::time::Duration;

use super::{
    Backend, CaptureRule, DateRange, DateRule, FileChange, FileDedupe, FileField, FileSource, Hardlinks,
    Initial, Kind, Names, RunOn, Symlinks, WriterCheck,
};
use crate::{
    schedule::ClockSchedule,
    trigger::{check, reader::Table, text::Text},
};

const CHANGES: [(&str, FileChange); 5] = [
    ("arrived", FileChange::Arrived),
    ("created", FileChange::Created),
    ("modified", FileChange::Modified),
    ("deleted", FileChange::Deleted),
    ("moved", FileChange::Moved),
];

const INITIAL: [(&str, Initial); 2] = [("ignore", Initial::Ignore), ("process", Initial::Process)];
const RUN_ON: [(&str, RunOn); 2] = [("origin", RunOn::Origin), ("anywhere", RunOn::Anywhere)];
const WRITER_CHECK: [(&str, WriterCheck); 3] =
    [("auto", WriterCheck::Auto), ("require", WriterCheck::Require), ("off", WriterCheck::Off)];
const NAMES: [(&str, Names); 3] = [("utf8", Names::Utf8), ("portable", Names::Portable), ("any", Names::Any)];
const KINDS: [(&str, Kind); 2] = [("file", Kind::File), ("directory", Kind::Directory)];
const SYMLINKS: [(&str, Symlinks); 3] =
    [("ignore", Symlinks::Ignore), ("file", Symlinks::File), ("follow", Symlinks::Follow)];
const HARDLINKS: [(&str, Hardlinks); 2] = [("allow", Hardlinks::Allow), ("reject", Hardlinks::Reject)];
const BACKENDS: [(&str, Backend); 3] =
    [("auto", Backend::Auto), ("fanotify", Backend::Fanotify), ("poll", Backend::Poll)];
const DAYS: [(&str, DateRange); 2] = [("today", DateRange::Today), ("yesterday", DateRange::Yesterday)];

const SECOND: Duration = Duration::from_secs(1);

/// Between two looks at everything, at most: a hint that was lost costs so much time.
const LONGEST_RESCAN: Duration = Duration::from_hours(24);

/// Reads the `index`th entry, and what it must have brought by when.
pub(in crate::trigger) fn read_file(index: usize, mut table: Table<'_>) -> (FileSource, Vec<ClockSchedule>) {
    let mut source = FileSource::default();
    read_paths(&mut table, &mut source);
    let capture = read_capture(&mut table, &mut source);
    read_looking(&mut table, &mut source);
    content::read(&mut table, &mut source);
    read_meaning(&mut table, &mut source, capture.as_ref());
    fate::read(&mut table, &mut source, capture.as_ref());
    pieces::check(&table, &source);
    let deadlines = deadline::read(index, &mut table);
    source.has_deadlines = !deadlines.is_empty();
    table.finish();
    (source, deadlines)
}

/// Which files.
fn read_paths(table: &mut Table<'_>, source: &mut FileSource) {
    let help = "globs of the files to watch: paths = [\"/data/input/*.csv\"]";
    table.demand("paths", help);
    source.paths = globs(table, "paths", check::watched_glob, help);
    set(&mut source.kinds, table.choices("kinds", &KINDS));
    if source.kinds.len() != 1 {
        let help = "[\"file\"] or [\"directory\"]; both are two [[on.file]]";
        table.problem_at("kinds", "kinds takes exactly one kind", help);
    }
    source.exclude = globs(table, "exclude", check::glob, "leave it out");
    source.unfinished = globs(table, "unfinished", check::glob, "leave it out");
    source.agents = table.selector("agents");
    set(&mut source.hidden, table.flag("hidden"));
    set(&mut source.partial, table.flag("partial"));
    set(&mut source.case_sensitive, table.flag("case_sensitive"));
    set(&mut source.names, table.choice("names", &NAMES));
    set(&mut source.symlinks, table.choice("symlinks", &SYMLINKS));
    set(&mut source.hardlinks, table.choice("hardlinks", &HARDLINKS));
    source.max_depth = table.integer("max_depth", 1..=1000).and_then(|depth| depth.try_into().ok());
    set(&mut source.one_filesystem, table.flag("one_filesystem"));
}

/// How they are found, and when they are complete.
fn read_looking(table: &mut Table<'_>, source: &mut FileSource) {
    set(&mut source.backend, table.choice("backend", &BACKENDS));
    source.poll = table.duration("poll", Duration::from_millis(100));
    source.rescan = table.duration("rescan", SECOND);
    if source.rescan.is_some_and(|rescan| rescan > LONGEST_RESCAN) {
        table.problem_at("rescan", "rescan is too long", "at most \"24h\": what a lost hint may cost");
    }
    source.settle = table.duration("settle", Duration::ZERO);
    set(&mut source.writer_check, table.choice("writer_check", &WRITER_CHECK));
    set(&mut source.max_settle, table.duration("max_settle", SECOND));
    if table.has_table("initial") {
        if let Some(mut initial) = table.table("initial") {
            initial.demand("newer_than", "newer_than = \"24h\"");
            source.initial =
                initial.duration("newer_than", SECOND).map_or(Initial::Ignore, Initial::NewerThan);
            initial.finish();
        }
    } else {
        set(&mut source.initial, table.choice("initial", &INITIAL));
    }
}

/// What an event is, and which of them are the same.
fn read_meaning(table: &mut Table<'_>, source: &mut FileSource, capture: Option<&CaptureRule>) {
    let names = CHANGES.map(|(name, _)| name).join(", ");
    set(&mut source.events, table.choices("events", &CHANGES));
    if table.is_empty_list("events") {
        table.problem_at("events", "events is empty", format!("leave it out, or name some of {names}"));
    }
    set(&mut source.run_on, table.choice("run_on", &RUN_ON));
    set(&mut source.recheck, table.flag("recheck"));
    source.share = table.text("share").map(|text| {
        if text.value.trim().is_empty() || text.value.len() > 255 {
            table.problem(text.span.clone(), "share has 1 to 255 characters", "the same text on every agent");
        }
        text.value
    });
    if let Some(mut dedupe) = table.table("dedupe") {
        source.dedupe = read_dedupe(&mut dedupe, capture);
        dedupe.finish();
    }
}

fn read_dedupe(table: &mut Table<'_>, capture: Option<&CaptureRule>) -> FileDedupe {
    let mut dedupe = FileDedupe::default();
    let allowed = ["path", "name", "size", "mtime", "identity", "sha256"];
    if let Some(texts) = table.texts("key") {
        if texts.is_empty() {
            table.problem_at("key", "key is empty", "every file would be the same");
        }
        let fields = texts.iter().filter_map(|text| field(table, text, "key", &allowed, capture));
        dedupe.key = fields.collect();
    }
    set(&mut dedupe.ttl, table.duration("ttl", Duration::from_mins(1)));
    dedupe
}

fn read_capture(table: &mut Table<'_>, source: &mut FileSource) -> Option<CaptureRule> {
    let text = table.text("capture");
    let rule = text.as_ref().and_then(|text| match CaptureRule::compile(&text.value) {
        Ok(rule) => Some(rule),
        Err(error) => {
            let help = "a regular expression over the file's name: '^(?<day>\\d{8})\\.csv$'";
            table.problem(text.span.clone(), format!("capture: {error}"), help);
            None
        }
    });
    source.capture = text.map(|text| text.value);
    source.date = table.table("date").and_then(|date| read_date(date, rule.as_ref()));
    rule
}

fn read_date(mut table: Table<'_>, capture: Option<&CaptureRule>) -> Option<DateRule> {
    let name = table.required("capture", "the named group of capture that is a date");
    if let Some(name) = &name {
        known_capture(&table, name, &name.value, capture);
    }
    let format = table.required("format", "as in the name: format = \"%Y%m%d\"");
    if let Some(text) = &format
        && let Err(error) = jiff::fmt::strtime::format(&text.value, &jiff::Zoned::default())
    {
        table.problem(text.span.clone(), format!("format: {error}"), "such as \"%Y%m%d\"");
    }
    table.demand("in", "in = \"today\", \"yesterday\" or { last = 3 }");
    let days = if table.has_table("in") {
        table.table("in").and_then(|mut days| {
            days.demand("last", "days before today that count too: last = 3");
            let last = days.integer("last", 1..=3650).and_then(|last| last.try_into().ok());
            days.finish();
            last.map(DateRange::Last)
        })
    } else {
        table.choice("in", &DAYS)
    };
    let zone = table.text("timezone");
    if let Some(text) = &zone
        && let Err(error) = crate::schedule::zone(&text.value)
    {
        table.problem(text.span.clone(), error.to_string(), error.help());
    }
    table.finish();
    let timezone = zone.map_or_else(super::values::utc, |zone| zone.value);
    Some(DateRule { capture: name?.value, format: format?.value, days: days?, timezone })
}

/// One of the fields that `key` allows, or a capture.
fn field(
    table: &Table<'_>,
    text: &Text,
    key: &str,
    allowed: &[&str],
    capture: Option<&CaptureRule>,
) -> Option<FileField> {
    match FileField::parse(&text.value) {
        Some(FileField::Capture(name)) => {
            known_capture(table, text, &name, capture);
            Some(FileField::Capture(name))
        }
        Some(field) if allowed.contains(&text.value.as_str()) => Some(field),
        _ => {
            let help = match allowed {
                [] => "capture:NAME, which counts the files".to_owned(),
                allowed => format!("one of {}, or capture:NAME", allowed.join(", ")),
            };
            table.problem(text.span.clone(), format!("{key} cannot be {:?}", text.value), help);
            None
        }
    }
}

fn known_capture(table: &Table<'_>, text: &Text, name: &str, capture: Option<&CaptureRule>) {
    let Some(rule) = capture else {
        let help = "capture = '^(?<name>..)' says what is captured";
        return table.problem(text.span.clone(), format!("nothing captures {name:?}"), help);
    };
    let names: Vec<&str> = rule.names().collect();
    if !names.contains(&name) {
        let help = crate::suggest::among(name, &names);
        table.problem(text.span.clone(), format!("capture has no group {name:?}"), help);
    }
}

fn globs(
    table: &mut Table<'_>,
    key: &'static str,
    check: fn(&Table<'_>, &Text, &str),
    help_if_empty: &str,
) -> Vec<String> {
    let Some(texts) = table.texts(key) else { return Vec::new() };
    if texts.is_empty() {
        table.problem_at(key, format!("{key} is empty"), help_if_empty);
    }
    for text in &texts {
        check(table, text, key);
    }
    texts.into_iter().map(|text| text.value).collect()
}

/// Takes what the file says, and leaves the default where it says nothing.
fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
