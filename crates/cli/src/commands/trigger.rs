//! `hetuflow trigger ..`

mod plan;
mod start;
mod test;

use std::path::{Path, PathBuf};

use hetuflow_core::{
    Clock,
    id::{EventId, Namespace},
    trigger::{self, Trigger},
};
use hetuflow_server::triggers::{KnownSchemes, complete};
use hetuflow_signature::Scheme;
use hetuflow_store::{StoredSchedule, StoredTrigger};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{logs::follow_all, schedule, typed};
use crate::{
    args::TriggerVerb,
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, plain, time},
};

/// A secret of a hook, as the API shows it.
#[derive(Debug, Deserialize)]
struct SecretUse {
    hook: String,
    secret: String,
    usable: bool,
    last_event_id: Option<EventId>,
    last_matched_at: Option<Timestamp>,
    looked_back_to: Option<Timestamp>,
}

impl SecretUse {
    fn line(&self) -> String {
        let last = match (self.last_matched_at, self.looked_back_to, self.last_event_id) {
            (Some(at), _, Some(id)) => format!("last matched {} by event {id}", time(at)),
            (_, Some(back), _) => {
                format!("matched nothing since {}; what came before was not looked at", time(back))
            }
            (..) => "matched nothing that the journal knows".to_owned(),
        };
        let missing = if self.usable { "" } else { "  (not there, or of no use to the scheme)" };
        format!("secret  {}  {}  {last}{missing}", plain(&self.hook), plain(&self.secret))
    }
}

/// A trigger as the API lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(flatten)]
    stored: StoredTrigger,
    /// What keeps it, or a part of it, from working.
    #[serde(default)]
    warnings: Vec<String>,
}

pub(crate) async fn run(verb: TriggerVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        TriggerVerb::List => list(client, output).await,
        TriggerVerb::Show { name } => show(&name, client, output).await,
        TriggerVerb::Check { files } => check(&files, output),
        TriggerVerb::Test(args) => test::run(args, client, output).await,
        TriggerVerb::Start { name, data, follow } => {
            let tasks = start::run(&name, data.as_deref(), client, output).await?;
            if follow { follow_all(&tasks, client, output).await } else { Ok(()) }
        }
        TriggerVerb::Plan { files } => plan::run(&files, client, output).await,
        TriggerVerb::Apply { files } => apply(&files, client, output).await,
        TriggerVerb::Remove { name } => client.act(Method::DELETE, &format!("triggers/{name}")).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("triggers", &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<Listed> = typed(&answer)?;
    let rows = list
        .items
        .iter()
        .map(|Listed { stored, .. }| {
            vec![
                plain(&stored.name),
                state(output, stored),
                stored.revision.to_string(),
                sources(stored),
                next(stored),
                plain(&stored.description),
            ]
        })
        .collect();
    let heads = ["TRIGGER", "STATE", "REVISION", "STARTED BY", "NEXT", "DESCRIPTION"];
    let empty = "No triggers. Put a file in the triggers folder, or use `hetuflow trigger apply FILE`.";
    output.table(&heads, rows, empty)?;
    for Listed { stored, warnings } in &list.items {
        for text in stored.problem.iter().chain(warnings) {
            output.line(&format!("\n{}:\n{}", plain(&stored.name), indent(text)))?;
        }
    }
    Ok(())
}

async fn show(name: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("triggers/{name}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let Listed { stored: trigger, warnings } = typed(&answer)?;
    output.fields(&[
        ("trigger", plain(&trigger.name)),
        ("state", state(output, &trigger)),
        ("file", plain(&trigger.origin)),
        ("owner", trigger.owner.clone()),
        ("revision", trigger.revision.to_string()),
        ("changed", time(trigger.updated_at)),
    ])?;
    for schedule in &trigger.schedules {
        let next = schedule.next_run_at.map(|at| format!("  next {}", time(at))).unwrap_or_default();
        output.line(&format!("{}  {}{next}", plain(&schedule.name), schedule::says(&schedule.spec)))?;
    }
    let secrets = answer.get("secrets").cloned().unwrap_or_else(|| json!([]));
    for used in typed::<Vec<SecretUse>>(&secrets)? {
        output.line(&used.line())?;
    }
    for text in trigger.problem.iter().chain(&warnings) {
        output.line(&indent(text))?;
    }
    match answer.get("text").and_then(Value::as_str) {
        Some(text) => output.line(&format!("\n{}", text.trim_end())),
        None => Ok(()),
    }
}

fn check(paths: &[PathBuf], output: Output) -> Result<(), CliError> {
    let (mut problems, mut warned) = (Vec::new(), Vec::new());
    for file in &files(paths)? {
        let (origin, name, text) = read(file)?;
        match trigger::parse(&origin, &name, &Namespace::default(), &text, &KnownSchemes) {
            Ok(triggers) => {
                for trigger in triggers {
                    let warnings = warnings(&trigger);
                    if !output.is_json() {
                        checked(&origin, &trigger, &warnings, output)?;
                    }
                    let told =
                        |warning| json!({ "file": origin, "trigger": trigger.name, "warning": warning });
                    warned.extend(warnings.iter().map(told));
                }
            }
            Err(found) => problems.push(found),
        }
    }
    if output.is_json() {
        output.json(&json!({ "problems": problems, "warnings": warned }))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(CliError::Invalid(problems)) }
}

fn checked(origin: &str, trigger: &Trigger, warnings: &[String], output: Output) -> Result<(), CliError> {
    output.line(&format!("{origin}: {} {}", trigger.name, output.tone("ok", Tone::Good)))?;
    warnings.iter().try_for_each(|warning| {
        output.line(&format!("{origin}: {} {warning}", output.tone("warning:", Tone::Bad)))
    })
}

/// The files, and of folders the trigger files that a server would load, by name.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = |source| CliError::Read { path: path.clone(), source };
        let entries = std::fs::read_dir(path).map_err(unreadable)?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let is_trigger = |file: &PathBuf| {
            let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !hidden && file.extension().is_some_and(|extension| extension == "toml") && file.is_file()
        };
        let mut found: Vec<PathBuf> = entries.map_err(unreadable)?.into_iter().filter(is_trigger).collect();
        if found.is_empty() {
            return Err(CliError::Failed(format!("{} holds no trigger files (*.toml)", path.display())));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// What works, and may not be what its owner wants.
fn warnings(trigger: &Trigger) -> Vec<String> {
    let now = Clock::system().now();
    let schemes = trigger.webhooks.iter().filter_map(|hook| Scheme::named(&hook.scheme, &hook.options).ok());
    let observers =
        trigger.webhooks.iter().filter_map(|hook| hook.observe_until).map(|until| observing(until, now));
    schemes.flat_map(|scheme| scheme.warnings()).chain(observers).collect()
}

fn observing(until: Timestamp, now: Timestamp) -> String {
    if now < until {
        format!(
            "until {until} it takes what is not authentic too (observe_until); nothing of that starts anything"
        )
    } else {
        format!("observe_until was {until}: it is over, take it out")
    }
}

async fn apply(paths: &[PathBuf], client: &Client, output: Output) -> Result<(), CliError> {
    for file in &files(paths)? {
        let (origin, name, text) = read(file)?;
        let body = json!({ "origin": origin, "name": name, "text": text });
        let answer: Value = client.post("triggers/apply", &body).await?;
        if output.is_json() {
            output.json(&answer)?;
        } else {
            output.line(&format!("{origin}: {}", output.tone("applied", Tone::Good)))?;
        }
    }
    Ok(())
}

/// A file's name for messages, its stem, its text.
pub(super) fn read(file: &Path) -> Result<(String, String, String), CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| CliError::Read { path: file.to_path_buf(), source })?;
    let text = complete(&text, file.parent().unwrap_or(Path::new(".")))
        .map_err(|why| CliError::Failed(format!("{}: {why}", file.display())))?;
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((file.display().to_string(), name, text))
}

fn state(output: Output, trigger: &StoredTrigger) -> String {
    match (&trigger.problem, trigger.revision) {
        (None, _) => output.tone("live", Tone::Good),
        (Some(_), 0) => output.tone("broken", Tone::Bad),
        (Some(_), revision) => output.tone(&format!("broken, revision {revision} in force"), Tone::Bad),
    }
}

fn sources(trigger: &StoredTrigger) -> String {
    let by_hand = format!("api.{}", trigger.name);
    let name = |schedule: &StoredSchedule| match schedule.spec.get("type").and_then(Value::as_str) {
        Some(own) if own == by_hand => "by hand".to_owned(),
        Some(_) | None => plain(&schedule.name),
    };
    trigger.schedules.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn next(trigger: &StoredTrigger) -> String {
    trigger.schedules.iter().filter_map(|schedule| schedule.next_run_at).min().map(time).unwrap_or_default()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {}", plain(line))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_folder_its_trigger_files_are_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let taken = || files(&[folder.path().to_path_buf()]);
        assert!(taken().is_err_and(|error| error.to_string().contains("no trigger files")));
        for name in ["b.toml", "a.toml", ".a.new.toml", "notes.md"] {
            std::fs::write(path(name), "").expect("written");
        }
        std::fs::create_dir(path("schemes.toml")).expect("a folder");
        assert_eq!(taken().expect("files"), [path("a.toml"), path("b.toml")]);
        let one = [path("gone.toml")];
        assert_eq!(files(&one).expect("its reading says what is wrong"), one);
    }
}
