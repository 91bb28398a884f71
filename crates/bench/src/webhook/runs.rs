//! The runs that jobs wrote down: a line each, when its event was sent and when it started.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, interval};

use crate::{child::command, monotonic};

/// What no stretch of a round takes, unless something is wrong.
pub(super) const WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Runs {
    pub(super) file: PathBuf,
    /// Lines that were read already.
    read: usize,
}

/// Lines of one stretch.
pub(super) struct Stretch(Vec<(u64, u64)>);

impl Runs {
    pub(super) fn new(file: PathBuf) -> anyhow::Result<Self> {
        fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file, read: 0 })
    }

    /// Waits for so many more. More than that is a run that nobody asked for.
    pub(super) async fn until(&mut self, count: u64) -> anyhow::Result<Stretch> {
        let (count, deadline) = (usize::try_from(count)?, Instant::now() + WITHIN);
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let text = fs::read_to_string(&self.file)?;
            let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            let new = &lines[self.read..];
            if new.len() >= count {
                ensure!(new.len() == count, "{} runs instead of {count}", new.len());
                self.read = lines.len();
                let parsed: Option<Vec<_>> = new.iter().map(|line| parse(line)).collect();
                return Ok(Stretch(parsed.context("a job wrote what is not understood")?));
            }
            if Instant::now() > deadline {
                bail!("{} of {count} runs after {WITHIN:?}", new.len());
            }
        }
    }
}

fn parse(line: &str) -> Option<(u64, u64)> {
    let (sent, started) = line.trim().split_once(' ')?;
    Some((sent.parse().ok()?, started.parse().ok()?))
}

impl Stretch {
    pub(super) fn waits(&self) -> Vec<u64> {
        self.0.iter().map(|(sent, started)| started.saturating_sub(*sent)).collect()
    }

    pub(super) fn last(&self) -> u64 {
        self.0.iter().map(|(_, started)| *started).max().unwrap_or_default()
    }
}

/// The same job, started by nobody but two loops that do nothing else: runs per second.
pub(super) async fn spawn_loop(folder: &Path, job: &Path, count: u64) -> anyhow::Result<f64> {
    let file = folder.join("spawned");
    fs::write(&file, "")?;
    let began = monotonic::now();
    let half = || async {
        for _ in 0..count / 2 {
            let mut command = command(job);
            let status = command.arg(&file).arg("0").stdin(Stdio::null()).status().await?;
            ensure!(status.success(), "the job failed");
        }
        Ok(())
    };
    tokio::try_join!(half(), half())?;
    Ok(count as f64 / (monotonic::now().saturating_sub(began) as f64 / 1e9))
}
