//! `hetuflow trigger test FILE --list`: every file below the globs, with the rule that decides about it.

use std::path::Path;

use hetuflow_core::{path_text, trigger::Trigger};
use hetuflow_watch::{Explained, Fate, explain};
use serde_json::json;

use crate::{
    error::CliError,
    output::{Output, Tone, plain},
};

/// Paths that are looked at for one entry, at most.
const MAX_PATHS: usize = 100_000;

pub(super) fn run(triggers: &[Trigger], base: &Path, output: Output) -> Result<(), CliError> {
    let base = std::path::absolute(base)
        .map_err(|error| CliError::Failed(format!("{}: {error}", base.display())))?;
    let mut all = Vec::new();
    for trigger in triggers {
        for source in &trigger.files {
            // Only a watcher has a state file, which it leaves out.
            let found = explain(source, &base, Path::new(""), MAX_PATHS);
            all.extend(found.map_err(|reason| CliError::Failed(format!("{}: {reason}", trigger.name)))?);
        }
    }
    if output.is_json() {
        let rows =
            all.iter().map(|one| json!({ "path": path_text::show(&one.path), "percent_encoded": one.path.to_str().is_none(), "fate": one.fate.name(), "reason": one.reason }));
        return output.json(&json!({ "files": rows.collect::<Vec<_>>() }));
    }
    let rows = all.iter().map(|one| row(one, output)).collect();
    let empty = if triggers.iter().all(|trigger| trigger.files.is_empty()) {
        "It watches no files: it has no [on.file]."
    } else {
        "There is nothing below its globs. Globs that do not begin with / start at the agent's data directory: --base DIR."
    };
    output.table(&["FILE", "FATE", "WHY"], rows, empty)?;
    if all.iter().any(|one| one.fate == Fate::Taken) {
        let text = "taken: as one that comes now. What an agent has told of, or found when the trigger was new, it leaves alone.";
        output.line(&output.tone(text, Tone::Faint))?;
    }
    Ok(())
}

fn row(one: &Explained, output: Output) -> Vec<String> {
    let tone = match one.fate {
        Fate::Taken => Tone::Good,
        Fate::Waits => Tone::Busy,
        Fate::Left => Tone::Faint,
        Fate::Rejected => Tone::Bad,
    };
    vec![plain(&path_text::show(&one.path)), output.tone(one.fate.name(), tone), plain(&one.reason)]
}
