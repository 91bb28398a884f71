//! One process of the product under test: started, killed, frozen and thawed by its own pid, never by a name. Its
//! log goes to a file of the run, from which its addresses are read.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// Far above what it takes, because machines are shared.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) program: Program,
    child: Option<Child>,
    /// Where in the log the present process began.
    since: u64,
    /// Counts starts, so that a thaw meets only the process that was frozen.
    pub(crate) life: u64,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) agents: SocketAddr,
    pub(crate) hooks: SocketAddr,
}

impl Node {
    pub(crate) const fn new(program: Program) -> Self {
        Self { program, child: None, since: 0, life: 0 }
    }

    pub(crate) fn start(&mut self, more: &[(String, String)]) -> anyhow::Result<()> {
        let Program { name, binary, args, environment, log } = &self.program;
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        self.since = log.metadata()?.len();
        #[expect(clippy::disallowed_methods, reason = "the harness starts the product's own binaries")]
        let mut command = Command::new(binary);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().chain(more).map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {name}"))?);
        self.life += 1;
        Ok(())
    }

    /// `kill -9`, also of a frozen process; false when it was not running.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(false) };
        if let Some(status) = child.try_wait()? {
            bail!(
                "{} had ended by itself ({status}); its log: {}",
                self.program.name,
                self.program.log.display()
            );
        }
        child.start_kill()?;
        child.wait().await?;
        Ok(true)
    }

    /// `kill -9`, or nothing when it has ended.
    pub(crate) async fn kill_if_alive(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id =
            self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = id.with_context(|| format!("{} does not run", self.program.name))?;
        Ok(kill_process(pid, signal)?)
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), |child| Ok(child.try_wait()?))
    }

    /// Where the server says that it listens, or nothing when it ends before it does.
    pub(crate) async fn addresses(&mut self) -> anyhow::Result<Option<Addresses>> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(found) = self.said()?.lines().find_map(addresses) {
                return Ok(Some(found));
            }
            if self.ended()?.is_some() {
                return Ok(None);
            }
            sleep(LOOK).await;
        }
        bail!("{} does not listen; its log: {}", self.program.name, self.program.log.display())
    }

    /// What the present process has written.
    pub(crate) fn said(&self) -> anyhow::Result<String> {
        let mut log = File::open(&self.program.log)?;
        log.seek(SeekFrom::Start(self.since))?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn addresses(line: &str) -> Option<Addresses> {
    let (_, rest) = line.split_once("listening")?;
    let value = |name: &str| {
        rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(Addresses { api: value("api")?, agents: value("agents")?, hooks: value("hooks")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_log() {
        let line = "2026-01-01T00:00:00Z  INFO hetuflow_server::run: listening api=127.0.0.1:1 agents=127.0.0.1:2 hooks=127.0.0.1:3";
        let found = addresses(line).expect("three addresses");
        assert_eq!((found.api.port(), found.agents.port(), found.hooks.port()), (1, 2, 3));
        assert_eq!(addresses("listening for nothing"), None);
    }
}
