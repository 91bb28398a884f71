//! `hetuflow trigger plan`: what `apply` would change, and changes nothing.

use std::path::PathBuf;

use hetuflow_core::{
    id::Namespace,
    trigger::{self, Problems},
};
use hetuflow_server::triggers::KnownSchemes;
use hetuflow_store::StoredTrigger;
use serde::Serialize;
use serde_json::{Value, json};
use similar::TextDiff;

use super::{Listed, files, read};
use crate::{
    client::{Client, List},
    commands::typed,
    error::CliError,
    output::{Output, Tone, plain},
};

/// Who owns what was applied.
const APPLIED: &str = "api";

/// What would become of one trigger of a file.
#[derive(Debug, Serialize)]
struct Planned {
    file: String,
    trigger: String,
    change: Change,
    /// Line by line, where the text changes.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
    /// Who else owns it, where `apply` would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    New,
    Changed,
    Same,
    /// It belongs to a folder: `apply` cannot change it.
    Refused,
}

pub(super) async fn run(paths: &[PathBuf], client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("triggers", &[]).await?;
    let live: List<Listed> = typed(&answer)?;
    let (mut planned, mut problems): (Vec<Planned>, Vec<Problems>) = (Vec::new(), Vec::new());
    for file in &files(paths)? {
        let (origin, name, text) = read(file)?;
        let triggers = match trigger::parse(&origin, &name, &Namespace::default(), &text, &KnownSchemes) {
            Ok(triggers) => triggers,
            Err(found) => {
                problems.push(found);
                continue;
            }
        };
        for trigger in triggers {
            let stored = live.items.iter().find(|one| one.stored.name == trigger.name.as_str());
            let before = match stored {
                Some(_) => Some(text_of(trigger.name.as_str(), client).await?),
                None => None,
            };
            let known = stored.map(|one| &one.stored).zip(before.as_deref());
            planned.push(plan(origin.clone(), trigger.name.as_str(), known, &text));
        }
    }
    if output.is_json() {
        output.json(&json!({ "planned": planned, "problems": problems }))?;
    } else {
        planned.iter().try_for_each(|one| tell(one, output))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(CliError::Invalid(problems)) }
}

async fn text_of(name: &str, client: &Client) -> Result<String, CliError> {
    let answer: Value = client.get(&format!("triggers/{name}"), &[]).await?;
    Ok(answer.get("text").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn plan(file: String, name: &str, known: Option<(&StoredTrigger, &str)>, text: &str) -> Planned {
    let (change, diff, owner) = match known {
        None => (Change::New, String::new(), None),
        Some((_, before)) if before == text => (Change::Same, String::new(), None),
        Some((stored, before)) => {
            let diff = TextDiff::from_lines(before, text)
                .unified_diff()
                .header(&format!("in force, revision {}", stored.revision), &file)
                .to_string();
            let owner = (stored.owner != APPLIED).then(|| stored.owner.clone());
            (if owner.is_some() { Change::Refused } else { Change::Changed }, diff, owner)
        }
    };
    Planned { file, trigger: name.to_owned(), change, diff, owner }
}

fn tell(planned: &Planned, output: Output) -> Result<(), CliError> {
    let (word, tone) = match planned.change {
        Change::New => ("new", Tone::Good),
        Change::Changed => ("changed", Tone::Busy),
        Change::Same => ("as it is in force", Tone::Faint),
        Change::Refused => ("refused", Tone::Bad),
    };
    let owner =
        planned.owner.as_ref().map(|owner| format!(": it belongs to {}", plain(owner))).unwrap_or_default();
    output.line(&format!("{}: {}{owner}", plain(&planned.trigger), output.tone(word, tone)))?;
    planned.diff.lines().try_for_each(|line| {
        let tone = match line.as_bytes().first() {
            Some(b'+') => Tone::Good,
            Some(b'-') => Tone::Bad,
            Some(_) | None => Tone::Faint,
        };
        output.line(&format!("  {}", output.tone(&plain(line), tone)))
    })
}
