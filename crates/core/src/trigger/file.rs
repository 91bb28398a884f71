//! From TOML to [`Trigger`]: the file's outermost level.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::{
    Known, Problem, Problems, Trigger, TriggerJob,
    calendar::read_calendars,
    job::read_job,
    reader::{Sheet, Table},
    schemes::WithSchemes,
    source::{Sources, read_sources},
    text::Text,
};
use crate::id::{Namespace, TriggerName};

/// Bytes of a trigger file, at most.
const MAX_FILE: usize = 256 * 1024;

const JOB_HELP: &str = "write [job] with cmd, or job = \"name\" for a job that exists";

pub(super) fn parse(
    origin: &str,
    default_name: &str,
    namespace: &Namespace,
    text: &str,
    known: &dyn Known,
) -> Result<Vec<Trigger>, Problems> {
    let problems = |problems: Vec<Problem>| Problems { origin: origin.to_owned(), problems };
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes", text.len());
        return Err(problems(vec![Problem::at(text, 0..0, message, Some(format!("at most {MAX_FILE}")))]));
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(problems(Problem::of_syntax(text, &errors)));
    }
    let sheet = Sheet::new(text);
    let mut table = Table::new(&sheet, "the file", 0..0, document.get_ref());
    read_calendars(&mut table);
    let reader = File { namespace, default_name, known: WithSchemes::read(known, &mut table) };
    let triggers = reader.read(table);
    if sheet.has_problems() { Err(problems(sheet.into_problems())) } else { Ok(triggers) }
}

struct File<'a> {
    namespace: &'a Namespace,
    default_name: &'a str,
    known: WithSchemes<'a>,
}

impl File<'_> {
    fn read(&self, mut file: Table<'_>) -> Vec<Trigger> {
        let Some(list) = file.take("trigger") else {
            let name =
                name_of(&file, &Text::unplaced(self.default_name), "the file's name is the trigger's name");
            return self.trigger(file, name).into_iter().collect();
        };
        let DeValue::Array(list) = list.get_ref() else {
            file.wrong_type(list, "trigger", "a list of tables", "write [[trigger]], or leave the level out");
            return Vec::new();
        };
        let mut names = BTreeSet::new();
        let mut triggers = Vec::new();
        for entry in list {
            let Some(mut table) = file.as_table(entry, "[[trigger]]") else { continue };
            let text = table.required("name", "several triggers in one file need a name each");
            let name = text.as_ref().and_then(|text| name_of(&table, text, ""));
            if let Some(text) = text.filter(|text| !names.insert(text.value.clone())) {
                table.problem(text.span, format!("the name {:?} is taken in this file", text.value), "");
            }
            triggers.extend(self.trigger(table, name));
        }
        file.finish();
        triggers
    }

    /// Without a name it cannot be, but everything in it is checked all the same.
    fn trigger(&self, mut table: Table<'_>, name: Option<TriggerName>) -> Option<Trigger> {
        let description = table.text("description").map(|text| text.value).unwrap_or_default();
        let enabled = table.flag("enabled").unwrap_or(true);
        let mut sources = read_sources(&mut table, name.as_ref(), &self.known);
        sources.webhooks.iter_mut().for_each(|webhook| self.known.define(webhook));
        let job = job_of(&mut table, &sources);
        table.finish();
        let sources = if enabled { sources } else { Sources::default() };
        let Sources { webhooks, files, clocks, daemons, events } = sources;
        let namespace = self.namespace.clone();
        let (name, job) = (name?, job?);
        Some(Trigger { namespace, name, description, enabled, job, webhooks, files, clocks, daemons, events })
    }
}

fn job_of(table: &mut Table<'_>, sources: &Sources) -> Option<TriggerJob> {
    let Some(value) = table.take("job") else {
        table.problem(table.span.clone(), "the trigger has no job", JOB_HELP);
        return None;
    };
    match value.get_ref() {
        DeValue::String(name) => {
            let text = Text::of_value(table.sheet.text, name, value.span());
            Some(TriggerJob::Named(name_of(table, &text, "")?.as_str().to_owned()))
        }
        DeValue::Table(entries) => {
            let job = Table::new(table.sheet, "[job]", value.span(), entries);
            Some(TriggerJob::Inline(read_job(job, sources)))
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => {
            table.wrong_type(value, "job", "a table or a name", JOB_HELP);
            None
        }
    }
}

fn name_of(table: &Table<'_>, text: &Text, help: &str) -> Option<TriggerName> {
    TriggerName::new(text.value.as_str())
        .map_err(|error| table.problem(text.span.clone(), error.to_string(), help))
        .ok()
}
