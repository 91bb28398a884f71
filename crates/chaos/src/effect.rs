//! The program that every job of a run is: it says that it starts, works for a while, says that it ends. What it
//! writes is the truth of a run; it knows nothing of hetuflow but the environment of its process.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;

use crate::{
    history::{Effect, Log, Phase, now},
    jobs::{Job, PLANNED_EXIT, Source, fails_first, run_fails, run_lasts, work},
};

/// The folder of the run, the trigger, and what the run knows the event by.
pub(crate) const FOLDER: &str = "CHAOS_FOLDER";
pub(crate) const TRIGGER: &str = "CHAOS_TRIGGER";
pub(crate) const KEY: &str = "CHAOS_KEY";

/// The file in the folder.
pub(crate) const EFFECTS: &str = "effects.jsonl";

/// A child in a group of its own that outlives its parent unless somebody cleans up.
pub(crate) const LEFT_BEHIND: Duration = Duration::from_mins(5);

/// Between two lines of a daemon.
const BEAT: Duration = Duration::from_millis(200);

pub(crate) fn run() -> ExitCode {
    match play() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<ExitCode> {
    let effect = read_environment()?;
    let mut log = Log::open(&PathBuf::from(variable(FOLDER)?).join(EFFECTS))?;
    log.write(&effect)?;
    log.sync()?;
    if effect.trigger == "long" {
        leave_child_behind()?;
    }
    let is_daemon = Job::named(&effect.trigger).is_some_and(|job| job.source == Source::Daemon);
    let planned = if is_daemon {
        go_on(&mut log, &effect)?;
        run_fails(&effect.event)
    } else {
        pause(work(&effect.trigger, &effect.key));
        effect.trigger == "retry" && effect.attempt <= fails_first(effect.key.parse()?)
    };
    log.write(&Effect { phase: Phase::End, at: now(), ..effect })?;
    log.sync()?;
    if planned {
        return Ok(ExitCode::from(u8::try_from(PLANNED_EXIT)?));
    }
    Ok(ExitCode::SUCCESS)
}

fn go_on(log: &mut Log, effect: &Effect) -> anyhow::Result<()> {
    let until = effect.at + u64::try_from(run_lasts(&effect.event).as_nanos())?;
    while now() < until {
        pause(BEAT);
        log.write(&Effect { phase: Phase::Alive, at: now(), ..effect.clone() })?;
    }
    Ok(())
}

fn read_environment() -> anyhow::Result<Effect> {
    let key = match variable(KEY) {
        Ok(key) => key,
        // A file's job is known by its file, a clock's or a daemon's by nothing.
        Err(_) => variable("HETUFLOW_FILE_CLAIMED_FROM").unwrap_or_default(),
    };
    Ok(Effect {
        phase: Phase::Start,
        trigger: variable(TRIGGER)?,
        key,
        event: variable("HETUFLOW_EVENT_ID")?,
        task: variable("HETUFLOW_TASK_ID")?,
        instance: variable("HETUFLOW_INSTANCE_ID")?,
        attempt: variable("HETUFLOW_ATTEMPT")?.parse()?,
        pid: std::process::id(),
        at: now(),
    })
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

fn leave_child_behind() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a job that leaves a process behind, as jobs do")]
    let mut command = std::process::Command::new("sleep");
    let _ = command.process_group(0).arg(LEFT_BEHIND.as_secs().to_string()).spawn()?;
    Ok(())
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the work of this job is to take time")]
    std::thread::sleep(time);
}
