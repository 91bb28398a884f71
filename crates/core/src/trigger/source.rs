//! `[on.KIND]`: what starts a trigger.

use super::{
    EventSource, FileSource, Known,
    clock::read_clock,
    daemon::read_daemon,
    files::read::read_file,
    reader::{Table, one_or_many},
    text::Text,
    webhook::read_webhook,
};
use crate::{
    condition::Condition,
    event::ENDS,
    id::TriggerName,
    schedule::{ClockSchedule, DaemonSchedule, ScheduleKind},
    suggest,
    trigger::WebhookSource,
};

const KINDS: [&str; 8] = ["webhook", "file", "cron", "interval", "once", "daemon", "event", "api"];

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
            "file" => {
                let (source, deadlines) = read_file(self.files.len(), table);
                self.files.push(source);
                self.clocks.extend(deadlines);
            }
            "cron" => self.read_clock(ScheduleKind::Cron, table),
            "interval" => self.read_clock(ScheduleKind::Interval, table),
            "once" => self.read_clock(ScheduleKind::Once, table),
            "daemon" => self.daemons.push(read_daemon(self.daemons.len(), table)),
            "api" => self.events.extend(name.map(|name| read_api(name, table))),
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
        let own = |clock: &&ClockSchedule| clock.deadline.is_none() && clock.rule.kind() == kind;
        let index = self.clocks.iter().filter(own).count();
        self.clocks.extend(read_clock(kind, index, table));
    }
}

/// Who starts it by hand makes an event of a type of its own.
fn read_api(name: &TriggerName, mut table: Table<'_>) -> EventSource {
    let when = read_when(&mut table);
    table.finish();
    EventSource { event_type: EventSource::by_hand(name), when }
}

fn read_event(mut table: Table<'_>) -> Option<EventSource> {
    let event_type = table.required("type", "the type of the events that start it: type = \"disk.full\"");
    if let Some(text) = event_type.as_ref().filter(|text| text.value.trim().is_empty()) {
        table.problem(text.span.clone(), "type is empty", "name the type of the events that start it");
    }
    if let Some(text) = event_type.as_ref().filter(|text| is_no_end(&text.value)) {
        let problem = format!("type: no end of a job is {:?}", text.value);
        table.problem(text.span.clone(), problem, format!("one of {}", ENDS.join(", ")));
    }
    let when = read_when(&mut table);
    table.finish();
    Some(EventSource { event_type: event_type?.value, when })
}

fn is_no_end(event_type: &str) -> bool {
    event_type.starts_with("job.") && !ENDS.contains(&event_type)
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
