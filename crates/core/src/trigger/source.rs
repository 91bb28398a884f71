//! `[on.KIND]`: what starts a trigger.

use std::time::Duration;

use super::{
    EventSource, FileChange, FileSource, Initial, Known, RunOn, check,
    clock::read_clock,
    daemon::read_daemon,
    reader::{Table, one_or_many},
    text::Text,
    webhook::read_webhook,
};
use crate::{
    condition::Condition,
    id::TriggerName,
    schedule::{ClockSchedule, DaemonSchedule, ScheduleKind},
    suggest,
    trigger::WebhookSource,
};

const KINDS: [&str; 7] = ["webhook", "file", "cron", "interval", "once", "daemon", "event"];

const CHANGES: [(&str, FileChange); 5] = [
    ("arrived", FileChange::Arrived),
    ("created", FileChange::Created),
    ("modified", FileChange::Modified),
    ("deleted", FileChange::Deleted),
    ("moved", FileChange::Moved),
];

const INITIAL: [(&str, Initial); 2] = [("ignore", Initial::Ignore), ("process", Initial::Process)];

const RUN_ON: [(&str, RunOn); 2] = [("origin", RunOn::Origin), ("anywhere", RunOn::Anywhere)];

/// Everything below `on`.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) webhooks: Vec<WebhookSource>,
    pub(super) files: Vec<FileSource>,
    pub(super) clocks: Vec<ClockSchedule>,
    pub(super) daemons: Vec<DaemonSchedule>,
    pub(super) events: Vec<EventSource>,
}

pub(super) fn read_sources(
    trigger: &mut Table<'_>,
    name: Option<&TriggerName>,
    known: &dyn Known,
) -> Sources {
    let mut sources = Sources::default();
    let help = format!("write one of {}", KINDS.map(|kind| format!("[on.{kind}]")).join(", "));
    let Some(on) = trigger.take("on") else {
        trigger.problem(trigger.span.clone(), "nothing starts this trigger", help);
        return sources;
    };
    let Some(table) = trigger.as_table(on, "[on]") else { return sources };
    let mut found = 0;
    for (kind, value) in table.entries() {
        if !KINDS.contains(&kind.value.as_str()) {
            let message = format!("nothing of the kind {:?} starts a trigger", kind.value);
            table.problem(kind.span, message, suggest::among(&kind.value, &KINDS));
            continue;
        }
        let section = format!("[on.{}]", kind.value);
        for entry in one_or_many(value) {
            found += 1;
            if let Some(entry) = table.as_table(entry, &section) {
                sources.read(&kind, entry, name, known);
            }
        }
    }
    if found == 0 && table.entries().next().is_none() {
        trigger.problem(on.span(), "nothing starts this trigger", help);
    }
    sources
}

impl Sources {
    fn read(&mut self, kind: &Text, table: Table<'_>, name: Option<&TriggerName>, known: &dyn Known) {
        match kind.value.as_str() {
            "webhook" => self.webhooks.extend(read_webhook(table, name, known)),
            "file" => self.files.push(read_file(table)),
            "cron" => self.read_clock(ScheduleKind::Cron, table),
            "interval" => self.read_clock(ScheduleKind::Interval, table),
            "once" => self.read_clock(ScheduleKind::Once, table),
            "daemon" => self.daemons.push(read_daemon(self.daemons.len(), table)),
            _ => self.events.extend(read_event(table)),
        }
    }

    /// Whether every run of the job is one of a daemon.
    pub(super) fn only_daemons(&self) -> bool {
        let Self { webhooks, files, clocks, daemons, events } = self;
        let others = webhooks.len() + files.len() + clocks.len() + events.len();
        others == 0 && !daemons.is_empty()
    }

    fn read_clock(&mut self, kind: ScheduleKind, table: Table<'_>) {
        let index = self.clocks.iter().filter(|clock| clock.rule.kind() == kind).count();
        self.clocks.extend(read_clock(kind, index, table));
    }
}

fn read_file(mut table: Table<'_>) -> FileSource {
    let help = "globs of the files to watch: paths = [\"/data/input/*.csv\"]";
    table.demand("paths", help);
    let paths = globs(&mut table, "paths", check::watched_glob, help);
    let names = CHANGES.map(|(name, _)| name).join(", ");
    let events = table.choices("events", &CHANGES);
    if table.is_empty_list("events") {
        table.problem_at("events", "events is empty", format!("leave it out, or name some of {names}"));
    }
    let source = FileSource {
        paths,
        exclude: globs(&mut table, "exclude", check::glob, "leave it out"),
        agents: table.selector("agents"),
        events: events.unwrap_or_else(super::default_changes),
        settle: table.duration("settle", Duration::ZERO),
        initial: table.choice("initial", &INITIAL).unwrap_or_default(),
        hidden: table.flag("hidden").unwrap_or_default(),
        run_on: table.choice("run_on", &RUN_ON).unwrap_or_default(),
    };
    table.finish();
    source
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

fn read_event(mut table: Table<'_>) -> Option<EventSource> {
    let event_type = table.required("type", "the type of the events that start it: type = \"job.succeeded\"");
    if let Some(text) = event_type.as_ref().filter(|text| text.value.trim().is_empty()) {
        table.problem(text.span.clone(), "type is empty", "name the type of the events that start it");
    }
    let when = read_when(&mut table);
    table.finish();
    Some(EventSource { event_type: event_type?.value, when })
}

/// `when`, compiled; a problem points at the character that is wrong.
pub(super) fn read_when(table: &mut Table<'_>) -> Option<Condition> {
    let text = table.text("when")?;
    Condition::compile(&text.value)
        .map_err(|error| {
            let span = error.offset.map_or_else(|| text.span.clone(), |at| text.place(at..at + 1));
            let help = "a CEL expression over body, headers, query, event and file: \
                        body.ref == \"refs/heads/main\"";
            table.problem(span, format!("when: {error}"), help);
        })
        .ok()
}
