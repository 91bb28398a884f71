//! The commands that xtask runs: in the repository's root, and ended together with xtask.
//!
//! A child that does not need the terminal leads a process group of its own, so that a stop signal ends
//! everything below it too: cargo alone would leave the test binary running.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the child may talk with a person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    Shared,
    None,
}

pub(crate) struct Child {
    name: String,
    command: tokio::process::Command,
    terminal: Terminal,
}

impl Child {
    pub(crate) fn new(program: &OsStr) -> Self {
        #[expect(clippy::disallowed_methods, reason = "xtask runs cargo and what it is told to run")]
        let command = tokio::process::Command::new(program);
        Self { name: program.to_string_lossy().into_owned(), command, terminal: Terminal::None }
    }

    /// A command of the cargo that runs this.
    pub(crate) fn cargo(verb: &str) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut child = Self::new(&cargo).args([verb]);
        child.command.current_dir(root());
        child.name = format!("cargo {verb}");
        child
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What it writes, once it has ended well.
    pub(crate) async fn output(mut self) -> anyhow::Result<Vec<u8>> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await;
        let output = output.with_context(|| format!("cannot run {}", self.name))?;
        anyhow::ensure!(output.status.success(), "{} ended with {}", self.name, output.status);
        Ok(output.stdout)
    }

    pub(crate) const fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = terminal;
        self
    }

    /// Waits for the child's end, or for a stop signal, which is passed on first.
    pub(crate) async fn run(mut self) -> anyhow::Result<ExitCode> {
        if self.terminal == Terminal::None {
            self.command.process_group(0).stdin(Stdio::null());
        }
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = self.command.spawn().with_context(|| format!("cannot run {}", self.name))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stop = tokio::select! {
            status = child.wait() => {
                // Whatever a test forgot ends here.
                self.kill(group, Signal::KILL);
                return Ok(code(status?));
            }
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
        };
        self.kill(group, stop);
        let status = child.wait().await?;
        self.kill(group, Signal::KILL);
        eprintln!("{} was stopped ({status})", self.name);
        Ok(ExitCode::from(130))
    }

    /// A process that is gone already is what was wanted.
    fn kill(&self, group: Option<Pid>, signal: Signal) {
        let Some(pid) = group else { return };
        match self.terminal {
            Terminal::None => drop(kill_process_group(pid, signal)),
            // On the terminal an interrupt reaches the child by itself, and a dead child's id is not ours.
            Terminal::Shared if matches!(signal, Signal::INT | Signal::KILL) => {}
            Terminal::Shared => drop(kill_process(pid, signal)),
        }
    }
}

fn code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    }
}

/// Of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).join("..")
}
