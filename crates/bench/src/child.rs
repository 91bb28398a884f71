//! The processes that a benchmark starts: they say in lines what happens, and end with the benchmark.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Lines},
    process::{Child as Process, ChildStdin, Command},
    time::timeout,
};

/// How long a stop may take before it becomes a kill.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Where a process says what is read here; the other stream is the benchmark's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    Stdout,
    Stderr,
}

/// Ended when it is dropped.
pub(crate) struct Child {
    name: String,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
}

impl Child {
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = S>,
        environment: &[(&str, String)],
        voice: Voice,
    ) -> anyhow::Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let mut command = command(program);
        command.args(args).envs(environment.iter().map(|(key, value)| (*key, value)));
        command.stdin(Stdio::piped()).kill_on_drop(true);
        match voice {
            Voice::Stdout => command.stdout(Stdio::piped()),
            Voice::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        let mut process = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let said: Option<Box<dyn AsyncRead + Send + Unpin>> = match voice {
            Voice::Stdout => process.stdout.take().map(|out| Box::new(out) as _),
            Voice::Stderr => process.stderr.take().map(|out| Box::new(out) as _),
        };
        let lines = BufReader::new(said.context("its output is piped")?).lines();
        let stdin = process.stdin.take();
        Ok(Self { name, process, stdin, lines })
    }

    /// This binary in another role, which speaks JSON on its standard output.
    pub(crate) fn role(args: &[String]) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this binary")?;
        let args = ["role"].into_iter().chain(args.iter().map(String::as_str));
        Self::start(&own, args, &[], Voice::Stdout)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Waits for a line that is what is looked for; others are passed over.
    pub(crate) async fn line<T>(
        &mut self,
        within: Duration,
        look: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut last = String::new();
        let search = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(found) = look(&line) {
                    return anyhow::Ok(Some(found));
                }
                last = line;
            }
            Ok(None)
        };
        match timeout(within, search).await {
            Ok(found) => found?.with_context(|| format!("{} ended; its last line: {last}", self.name)),
            Err(_) => bail!("{} did not say it within {within:?}; its last line: {last}", self.name),
        }
    }

    /// The next line that is JSON of this form.
    pub(crate) async fn said<T: DeserializeOwned>(&mut self, within: Duration) -> anyhow::Result<T> {
        self.line(within, |line| serde_json::from_str(line).ok()).await
    }

    pub(crate) async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    /// Waits for a process that ends by itself.
    pub(crate) async fn ended(mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let status = self.process.wait().await?;
        anyhow::ensure!(status.success(), "{} failed ({status})", self.name);
        Ok(())
    }

    /// Keeps reading what it says, so that it never waits for a reader.
    pub(crate) fn drain(self) -> Drained {
        let Self { name, process, stdin, mut lines } = self;
        let reader = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Drained { name, process, _stdin: stdin, _reader: reader }
    }

    pub(crate) async fn stop(self) {
        self.drain().stop().await;
    }
}

/// A process that has said what it had to say.
pub(crate) struct Drained {
    name: String,
    process: Process,
    _stdin: Option<ChildStdin>,
    _reader: tokio::task::JoinHandle<()>,
}

impl Drained {
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().with_context(|| format!("{} has ended", self.name))
    }

    pub(crate) async fn stop(mut self) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Gone already is what was wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_WITHIN, self.process.wait()).await.is_err() {
            eprintln!("{} did not stop and is killed", self.name);
            let _ = self.process.kill().await;
        }
    }
}

/// A binary of the same build as this one.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this binary")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not there: run this as `cargo xtask bench`", path.display());
    Ok(path)
}

pub(crate) fn command(program: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
    Command::new(program)
}
