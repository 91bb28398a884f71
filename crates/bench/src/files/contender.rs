//! Who watches: `hetuflow up`, Debian's `incron`, or a shell loop over `inotifywait`. The peers are started by hand, without
//! the system's own tables: what the machine already does is left alone.

use std::{fs, path::Path, process::Stdio, time::Duration};

use rustix::process::geteuid;

use super::{Args, starts::Starts};
use crate::{
    child::{Child, Drained, Voice, command, sibling},
    report::Report,
};

const START_WITHIN: Duration = Duration::from_mins(5);
const INCROND: &str = "/usr/sbin/incrond";
const INOTIFYWAIT: &str = "/usr/bin/inotifywait";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Loop,
    Incron,
    /// As shipped.
    Up,
    /// With `settle = "0s"`: complete is what nobody writes to.
    Prompt,
}

/// Installs the peers where that can be done.
pub(super) async fn install() {
    let here = |program: &str| Path::new(program).exists();
    if (here(INCROND) && here(INOTIFYWAIT)) || !geteuid().is_root() {
        return;
    }
    eprintln!("installing Debian's incron and inotify-tools");
    let install = ["install", "--yes", "--no-install-recommends", "incron", "inotify-tools"];
    // Without them the others are measured alone, and the report says so.
    let _ = command(Path::new("apt-get")).args(install).stdout(Stdio::null()).status().await;
}

impl Kind {
    /// Those that this machine has.
    pub(super) fn present(report: &mut Report) -> Vec<Self> {
        let incron = Path::new(INCROND).exists() && geteuid().is_root();
        if !incron {
            report.note(
                "incron is not here, or this is not root, and it was left out: `apt-get install incron`",
            );
        }
        let waiting = Path::new(INOTIFYWAIT).exists();
        if !waiting {
            report.note("inotifywait is not here and was left out: `apt-get install inotify-tools`");
        }
        let here = |kind: &Self| match kind {
            Self::Loop => waiting,
            Self::Incron => incron,
            Self::Up | Self::Prompt => true,
        };
        [Self::Loop, Self::Incron, Self::Up, Self::Prompt].into_iter().filter(here).collect()
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loop => "inotifywait and a shell loop",
            Self::Incron => "Debian's incron",
            Self::Up => "hetuflow up, SQLite",
            Self::Prompt => "hetuflow up, SQLite, settle 0s",
        }
    }
}

pub(super) struct Contender(Vec<Drained>);

impl Contender {
    /// Watches the folders `a`, `b` and `c` in `folder/in`, and starts the job for each file.
    pub(super) async fn start(
        kind: Kind,
        folder: &Path,
        starts: &Starts,
        args: &Args,
    ) -> anyhow::Result<Self> {
        let (job, slots) = (args.job.path()?.display().to_string(), args.slots);
        let starts = starts.file.display().to_string();
        match kind {
            Kind::Loop => shell_loop(folder, &job, &starts).await,
            Kind::Incron => incron(folder, &job, &starts),
            Kind::Up => up(folder, &job, &starts, slots, "").await,
            Kind::Prompt => up(folder, &job, &starts, slots, "settle = \"0s\"\n").await,
        }
    }

    pub(super) async fn stop(self) {
        for process in self.0 {
            process.stop().await;
        }
    }
}

async fn shell_loop(folder: &Path, job: &str, starts: &str) -> anyhow::Result<Contender> {
    let (pipe, inbox) =
        (folder.join("events").display().to_string(), folder.join("in").display().to_string());
    rustix::fs::mkfifoat(rustix::fs::CWD, pipe.as_str(), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    let work = "while IFS= read -r file; do \"$0\" \"$1\" \"$file\"; done < \"$2\"";
    let worker = Child::start(Path::new("/bin/sh"), ["-c", work, job, starts, &pipe], &[], Voice::Stderr)?;
    let watch = "exec inotifywait --monitor --recursive --event close_write --event moved_to --format %w%f \"$1\" > \"$0\"";
    let mut watcher = Child::start(Path::new("/bin/sh"), ["-c", watch, &pipe, &inbox], &[], Voice::Stderr)?;
    watcher.line(START_WITHIN, |line| line.contains("Watches established").then_some(())).await?;
    Ok(Contender(vec![watcher.drain(), worker.drain()]))
}

fn incron(folder: &Path, job: &str, starts: &str) -> anyhow::Result<Contender> {
    let (tables, users, config) = (folder.join("tables"), folder.join("users"), folder.join("incron.conf"));
    fs::create_dir(&tables)?;
    fs::create_dir(&users)?;
    let text = format!(
        "system_table_dir = {}\nuser_table_dir = {}\nlockfile_dir = {}\nlockfile_name = bench\n",
        tables.display(),
        users.display(),
        folder.display()
    );
    fs::write(&config, text)?;
    let line = |inbox| {
        let inbox = folder.join("in").join(inbox);
        format!("{} IN_CLOSE_WRITE,IN_MOVED_TO {job} {starts} $@/$#\n", inbox.display())
    };
    fs::write(tables.join("bench"), ["a", "b", "c"].map(line).concat())?;
    let args = ["--foreground".to_owned(), format!("--config={}", config.display())];
    Ok(Contender(vec![Child::start(Path::new(INCROND), args, &[], Voice::Stderr)?.drain()]))
}

async fn up(folder: &Path, job: &str, starts: &str, slots: u32, more: &str) -> anyhow::Result<Contender> {
    let config = folder.join("server.toml");
    fs::write(&config, "")?;
    let trigger = trigger(&folder.join("in/**/*.csv"), more, job, starts);
    let mut environment = server(folder, &trigger)?;
    environment.extend([
        ("HETUFLOW_AGENT__AGENT__ID", "bench".to_owned()),
        ("HETUFLOW_AGENT__AGENT__DATA_DIR", folder.join("agent").display().to_string()),
        ("HETUFLOW_AGENT__AGENT__MAX_CONCURRENT_TASKS", slots.to_string()),
    ]);
    let args = ["up", "--config", &config.display().to_string()];
    let mut process = Child::start(&sibling("hetuflow")?, args, &environment, Voice::Stderr)?;
    process.line(START_WITHIN, |line| line.contains("ready").then_some(())).await?;
    Ok(Contender(vec![process.drain()]))
}

/// What a server of its own with this one trigger is to be told; writes the trigger.
pub(super) fn server(folder: &Path, trigger: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let triggers = folder.join("triggers");
    fs::create_dir(&triggers)?;
    fs::write(triggers.join("bench.toml"), trigger)?;
    let any = || "127.0.0.1:0".to_owned();
    Ok(vec![
        ("DATABASE_URL", format!("sqlite:{}", folder.join("hetuflow.db").display())),
        ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", triggers.display().to_string()),
        ("HETUFLOW_SERVER__SERVER__HTTP_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__HOOK_PORT", any()),
    ])
}

pub(super) fn trigger(glob: &Path, more: &str, job: &str, starts: &str) -> String {
    format!(
        "[on.file]\npaths = [\"{}\"]\n{more}\n[job]\ncmd = \"{job}\"\nargs = [\"{starts}\", \"{{{{ file.path }}}}\"]\n",
        glob.display()
    )
}
