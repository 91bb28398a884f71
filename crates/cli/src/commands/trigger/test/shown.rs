//! How a test's answers are printed: what was decided and why, and the command as it would run.

use std::collections::BTreeMap;

use hetuflow_core::{
    event::{DecisionOutcome, Event},
    job::Command,
    matching::Rehearsal,
    trigger::{Trigger, TriggerJob},
};
use serde_json::{Value, json};

use crate::{
    commands::decision,
    error::CliError,
    output::{Output, Tone, pairs, plain, time},
};

/// What stands in the place of a secret.
const HIDDEN: &str = "(not shown)";
/// Parts of names of variables that hold secrets.
const SECRETS: [&str; 8] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "API_KEY", "PRIVATE"];
/// Characters of a value that are printed.
const MAX_SHOWN: usize = 200;

/// One event, and what a trigger makes of it; what it made of it as it is in force.
pub(super) struct Case {
    pub(super) trigger: String,
    /// What the job asks of an agent.
    pub(super) labels: String,
    pub(super) event: Event,
    pub(super) now: Option<Rehearsal>,
    pub(super) before: Option<Rehearsal>,
}

impl Case {
    /// Decided otherwise, or what would run is another command.
    fn differs(&self) -> bool {
        outcome(self.now.as_ref()) != outcome(self.before.as_ref()) || self.runs_other()
    }

    fn runs_other(&self) -> bool {
        let command = |rehearsal: Option<&Rehearsal>| rehearsal.and_then(|one| one.command.clone());
        outcome(self.now.as_ref()) == outcome(self.before.as_ref())
            && command(self.now.as_ref()) != command(self.before.as_ref())
    }
}

fn outcome(rehearsal: Option<&Rehearsal>) -> Option<DecisionOutcome> {
    rehearsal.map(|rehearsal| rehearsal.decision.outcome)
}

pub(super) fn labels(trigger: &Trigger) -> String {
    match &trigger.job {
        TriggerJob::Inline(job) => pairs(&job.labels.0),
        TriggerJob::Named(_) => String::new(),
    }
}

/// A case at length.
pub(super) fn one(case: &Case, diff: bool, output: Output) -> Result<(), CliError> {
    match &case.now {
        Some(rehearsal) => told(case, rehearsal, output)?,
        None => output.line(&format!("trigger {}  would not be asked", plain(&case.trigger)))?,
    }
    if !diff {
        return Ok(());
    }
    output.line("")?;
    match &case.before {
        None => output.line("In force it is not asked about this."),
        Some(_) if !case.differs() => output.line("In force the same is decided, and the same would run."),
        Some(before) => {
            output.line("In force:")?;
            told(case, before, output)
        }
    }
}

fn told(case: &Case, rehearsal: &Rehearsal, output: Output) -> Result<(), CliError> {
    decision::print(output, &rehearsal.decision)?;
    match &rehearsal.command {
        Some(Ok(command)) => run(case, command, output),
        Some(Err(problem)) => {
            output.line(&format!("{}: {}", output.tone("cannot run", Tone::Bad), plain(problem)))
        }
        None if rehearsal.decision.outcome == DecisionOutcome::Matched => {
            output.line("would run the job that it names, which is not in this file")
        }
        None => Ok(()),
    }
}

fn run(case: &Case, command: &Command, output: Output) -> Result<(), CliError> {
    let mut argv = vec![quoted(&command.cmd)];
    argv.extend(command.args.iter().map(|arg| quoted(arg)));
    let environment: Vec<String> = environment(command)
        .into_iter()
        .map(|(name, value)| format!("{}={}", plain(name), quoted(value)))
        .collect();
    let bytes = case.event.body.len();
    let stdin = command.stdin.as_deref().map(|text| format!("{} bytes: {}", text.len(), quoted(text)));
    output.fields(&[
        ("would run", argv.join(" ")),
        ("environment", environment.join(" ")),
        ("in", plain(command.working_dir.as_deref().unwrap_or_default())),
        ("stdin", stdin.unwrap_or_else(|| "empty".to_owned())),
        ("event file", format!("HETUFLOW_EVENT_FILE: {bytes} bytes, as received")),
        ("as", plain(command.user.as_deref().unwrap_or_default())),
        ("on an agent with", case.labels.clone()),
    ])
}

/// With secrets left out.
fn environment(command: &Command) -> BTreeMap<&str, &str> {
    let is_secret = |name: &str| {
        let name = name.to_ascii_uppercase();
        SECRETS.iter().any(|part| name.contains(part))
    };
    command
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), if is_secret(name) { HIDDEN } else { value.as_str() }))
        .collect()
}

/// As somebody would type it into a shell; long ones are cut.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    let short = if short.len() < text.len() { format!("{short}..") } else { short };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !short.is_empty() && short.chars().all(is_plain) {
        return short;
    }
    plain(&format!("'{}'", short.replace('\'', "'\\''")))
}

/// A table of many cases, or of those that differ.
pub(super) fn many(cases: &[Case], diff: bool, output: Output) -> Result<(), CliError> {
    let word = |rehearsal: Option<&Rehearsal>| match rehearsal {
        Some(Rehearsal { command: Some(Err(_)), .. }) => output.tone("matched, cannot run", Tone::Bad),
        Some(rehearsal) => decision::word(output, rehearsal.decision.outcome),
        None => output.tone("not asked", Tone::Faint),
    };
    let row = |case: &Case| {
        let mut row =
            vec![case.event.id.to_string(), time(case.event.received_at), plain(&case.event.event_type)];
        if diff {
            row.push(word(case.before.as_ref()));
        }
        row.extend([word(case.now.as_ref()), why(case)]);
        row
    };
    let rows: Vec<Vec<String>> = cases.iter().filter(|case| !diff || case.differs()).map(row).collect();
    if diff {
        if !rows.is_empty() {
            output.table(&["EVENT", "RECEIVED", "TYPE", "IN FORCE", "THIS FILE", "WHY"], rows, "")?;
        }
        return output.line(&difference(cases));
    }
    output.table(&["EVENT", "RECEIVED", "TYPE", "DECISION", "WHY"], rows, "")
}

/// What this file says about it that is of interest: the clause that failed, or why it is run differently.
fn why(case: &Case) -> String {
    let Some(now) = &case.now else { return String::new() };
    if let Some(Err(problem)) = &now.command {
        return plain(problem);
    }
    if case.before.is_some() && case.runs_other() {
        return "another command".to_owned();
    }
    match now.decision.clauses.iter().find(|clause| !clause.held) {
        Some(clause) if clause.wanted.is_some() => plain(&decision::told(clause)),
        Some(_) | None => plain(now.decision.reason.as_deref().unwrap_or_default()),
    }
}

fn difference(cases: &[Case]) -> String {
    let decided = cases.iter().filter(|case| case.differs() && !case.runs_other()).count();
    let other = cases.iter().filter(|case| case.runs_other()).count();
    let total = cases.len();
    match (decided, other) {
        (0, 0) => format!("Of the last {total} events, all would be decided as they are now."),
        (decided, 0) => format!("Of the last {total} events, {decided} would be decided otherwise."),
        (decided, other) => format!(
            "Of the last {total} events, {decided} would be decided otherwise, and for {other} another command would run."
        ),
    }
}

pub(super) fn json(cases: &[Case], diff: bool) -> Vec<Value> {
    let told = |rehearsal: Option<&Rehearsal>| {
        rehearsal.map(|rehearsal| {
            let command = match &rehearsal.command {
                None => Value::Null,
                Some(Err(problem)) => json!({ "problem": problem }),
                Some(Ok(command)) => {
                    let mut told = json!(command);
                    told["environment"] = json!(environment(command));
                    told
                }
            };
            json!({ "decision": rehearsal.decision, "command": command })
        })
    };
    let case = |case: &Case| {
        let mut value = json!({
            "trigger": case.trigger, "event_id": case.event.id, "type": case.event.event_type,
            "this_file": told(case.now.as_ref()),
        });
        if diff {
            value["in_force"] = json!(told(case.before.as_ref()));
            value["differs"] = json!(case.differs());
        }
        value
    };
    cases.iter().map(case).collect()
}
