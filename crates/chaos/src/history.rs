//! What happened, as those who saw it wrote it down: lines of JSON that are only ever appended. The generator writes
//! operations and drops, the supervisor faults, the jobs themselves effects. The checker reads all of them, and none
//! of it comes from hetuflow.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// One try to hand in a delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) n: u64,
    pub(crate) hook: String,
    pub(crate) at: Nanos,
    pub(crate) answer: Answer,
}

/// What the sender knows afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Accepted, or known already: 2xx.
    Ok { event_id: String, task_ids: Vec<String>, duplicate: bool },
    /// Certainly not taken: no connection, or refused.
    Fail(String),
    /// Nobody can say: a timeout, a reset, an error of the server.
    Info(String),
}

/// A file that was moved into the watched folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Drop {
    pub(crate) path: String,
    pub(crate) at: Nanos,
}

/// A line that a job wrote while it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Effect {
    pub(crate) phase: Phase,
    pub(crate) trigger: String,
    /// The number of the delivery, or the file, or nothing.
    pub(crate) key: String,
    pub(crate) event: String,
    pub(crate) task: String,
    pub(crate) instance: String,
    pub(crate) attempt: u32,
    pub(crate) pid: u32,
    pub(crate) at: Nanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Start,
    /// It still runs: daemons say so again and again, because most of them are ended before they could say so.
    Alive,
    End,
}

/// Something that the supervisor did to a part of the product, or saw befall it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) at: Nanos,
    pub(crate) kind: FaultKind,
    /// `server 0`, `agent-1`, `postgres`.
    pub(crate) target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    Kill,
    Freeze,
    Partition,
    Restart,
    /// Frozen for longer than the product waits for it, until its `Return`.
    Absence,
    Return,
    /// Disk or processors did not answer for a second and more, which nobody did on purpose.
    Stall,
}

/// An attempt that the product had declared lost, as the supervisor saw it before the agent came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    pub(crate) at: Nanos,
    pub(crate) task: String,
    pub(crate) instance: String,
}

/// Nanoseconds since 1970.
pub(crate) type Nanos = u64;

#[expect(clippy::disallowed_methods, reason = "histories are written outside the product, by the wall clock")]
pub(crate) fn now() -> Nanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// An append-only file of one kind of line.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(Self).with_context(|| format!("cannot open {}", path.display()))
    }

    /// One line with one write, so that processes that share the file never mix theirs.
    pub(crate) fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        Ok(self.0.write_all(&text)?)
    }

    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        Ok(self.0.sync_data()?)
    }
}

/// All lines; none when the file is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let parse = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("{}: not a line: {line:?}", path.display()))
    };
    text.lines().map(parse).collect()
}
