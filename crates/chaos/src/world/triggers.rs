//! The trigger files of a run, made from the table of jobs.

use std::{fmt::Write as _, path::Path};

use crate::{
    effect::{FOLDER, KEY, TRIGGER},
    jobs::{BACKOFF, JOBS, Job, MAX_BACKOFF, OnLost, REPEATED, RESET_AFTER, Source},
    state::Api,
};

pub(crate) const SECRET: &str = "the secret of this run";

pub(super) fn write(folder: &Path, effect: &Path) -> anyhow::Result<()> {
    for job in &JOBS {
        std::fs::write(file(folder, job.name), text(job, folder, effect)?)?;
    }
    Ok(())
}

pub(super) async fn apply(folder: &Path, api: &Api) -> anyhow::Result<()> {
    for job in &JOBS {
        api.apply(job.name, &std::fs::read_to_string(file(folder, job.name))?).await?;
    }
    Ok(())
}

pub(super) async fn remove(source: Source, folder: &Path, api: &Api, applied: bool) -> anyhow::Result<()> {
    for job in Job::of(source) {
        let file = file(folder, job.name);
        if applied {
            api.remove(job.name).await?;
        } else if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn file(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("triggers/{name}.toml"))
}

fn text(job: &Job, folder: &Path, effect: &Path) -> anyhow::Result<String> {
    let (name, here) = (job.name, folder.display());
    let mut text = match job.source {
        Source::Hook(hook) => {
            let twin = if hook == name { "" } else { "when = 'body.twin'\n" };
            // Known by the provider's id and by what is signed: two keys for an event.
            let replay = if name == REPEATED { "options = { replay = \"strict\" }\n" } else { "" };
            format!(
                "[on.webhook]\npath = \"{hook}\"\nscheme = \"github\"\nsecret = {{ env = \"CHAOS_SECRET\" }}\n{replay}{twin}"
            )
        }
        Source::File => format!(
            "[on.file]\npaths = [\"{here}/inbox/*.job\"]\nagents = {{ watches = \"yes\" }}\nevents = [\"arrived\"]\ninitial = \"process\"\n\
             claim = \"rename\"\nafter_success = {{ move = \"done/{{name}}\" }}\n"
        ),
        Source::Clock if name == "cron" => {
            "[on.cron]\nexpression = \"* * * * * *\"\nmissed = \"all\"\n".to_owned()
        }
        Source::End(of) => {
            // The others are asked for and never taken: every end of the run is told.
            let event = |kind: &str, of: &str| {
                format!("[[on.event]]\ntype = \"job.{kind}\"\nwhen = 'event.subject == \"{of}\"'\n\n")
            };
            [event("succeeded", of), event("failed", "nobody"), event("cancelled", "nobody")].concat()
        }
        Source::Clock => "[on.interval]\nevery = \"1s\"\n".to_owned(),
        Source::Daemon => format!(
            "[on.daemon]\nbackoff = \"{}s\"\nmax_backoff = \"{}s\"\nreset_after = \"{}s\"\n",
            BACKOFF.as_secs(),
            MAX_BACKOFF.as_secs(),
            RESET_AFTER.as_secs()
        ),
    };
    let key = match job.source {
        Source::Hook(_) => format!(", {KEY} = \"{{{{ body.n }}}}\""),
        Source::File | Source::Clock | Source::End(_) | Source::Daemon => String::new(),
    };
    let on_lost = match job.on_lost {
        OnLost::Retry => "retry",
        OnLost::Fail => "fail",
        OnLost::Hold => "hold",
    };
    writeln!(text, "\n[job]\ncmd = \"{}\"\nargs = [\"effect\"]", effect.display())?;
    writeln!(text, "environment = {{ {FOLDER} = \"{here}\", {TRIGGER} = \"{name}\"{key} }}")?;
    // A daemon's runs are no retries.
    if job.source != Source::Daemon {
        writeln!(text, "max_retries = {}\nretry_interval = \"200ms\"", job.max_retries)?;
        writeln!(text, "retry = {{ backoff = \"fixed\" }}")?;
    }
    writeln!(text, "on_lost = \"{on_lost}\"")?;
    Ok(text)
}
