//! The journal: what this agent has promised, durable before it acts on it. One SQLite file with one writer
//! ([`writer`]). An assignment is in it before its process starts, and leaves it only when the server has acknowledged
//! the result. Step 8 of the walk.
//!
//! It also knows the highest fence of every task that it has seen, which is what makes "an attempt
//! starts at most once" hold against assignments that come twice or late.
//!
//! Two kinds of entries: what somebody waits for (an acceptance, a refusal, the next epoch) is committed at once,
//! together with all that came meanwhile. What nobody waits for (a start, an end, an end that was acknowledged) waits a
//! moment, for the next of its attempt, which makes it needless, and for a commit that writes many of them. Without a
//! start, the marker and the cgroup find the process; without an end, the attempt counts as lost with those that still
//! ran, unless the server has it; without the acknowledgement, the result is reported and acknowledged once more.

mod file;
mod group;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hetuflow_core::{
    id::{InstanceId, JournalId},
    protocol::RunResult,
    task::Lease,
};
use hetuflow_sqlite::Unfit;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::process::ProcessId;
use group::Entry;
use writer::{Last, Request};

/// Requests that wait for the writer; whoever comes then waits in front of it.
const QUEUE: usize = 256;

#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Shared by all whose entries were in the commit that failed.
    #[error("the journal failed")]
    Database(#[source] Arc<sqlx::Error>),
    #[error("the journal cannot keep its word")]
    Unfit(#[from] Unfit),
    #[error("the journal's row {row} is not readable: {problem}")]
    Corrupt { row: String, problem: String },
    #[error("the journal is closed")]
    Closed,
}

#[derive(Debug, Clone)]
pub(crate) struct Journal {
    requests: mpsc::Sender<Request>,
    id: JournalId,
    /// A pid means something only within one boot.
    boot_id: Arc<str>,
}

/// What an assignment comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// New and durable: its process may start, once.
    Accepted,
    /// An attempt of this task with this fence or a higher one has been here before.
    Stale,
}

/// One attempt as an earlier life of the agent left it.
#[derive(Debug, Clone)]
pub(crate) struct Journalled {
    pub(crate) lease: Lease,
    pub(crate) boot_id: String,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) process: Option<ProcessId>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) result: Option<RunResult>,
}

impl Journal {
    /// Yields the journal, and what an earlier life of the agent left in it.
    pub(crate) async fn open(
        path: &Path,
        boot_id: &str,
        now: Timestamp,
    ) -> Result<(Self, Vec<Journalled>), JournalError> {
        let mut connection = file::open(path, now).await?;
        let id = file::id(&mut connection).await?;
        let left = file::attempts(&mut connection).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(connection, queue));
        Ok((Self { requests, id, boot_id: boot_id.into() }, left))
    }

    pub(crate) fn id(&self) -> JournalId {
        self.id
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Raises the epoch, durably, and yields it: for the next hello. All that was asked before is done by then.
    pub(crate) async fn next_epoch(&self) -> Result<u64, JournalError> {
        self.ask(|done| Request::Last(Last::Epoch(done))).await
    }

    /// Takes an assignment, once.
    pub(crate) async fn accept(
        &self,
        lease: Lease,
        cgroup: Option<&Path>,
        now: Timestamp,
    ) -> Result<Acceptance, JournalError> {
        let cgroup = cgroup.map(|path| path.to_string_lossy().into_owned());
        let entry = Entry::Accept { lease, boot_id: Arc::clone(&self.boot_id), cgroup, seen_at: now };
        self.ask(|done| Request::Write(entry, Some(done))).await
    }

    /// Remembers that this attempt was given back, so that a copy of its assignment that is still on
    /// its way starts nothing.
    pub(crate) async fn refuse(&self, lease: Lease, now: Timestamp) -> Result<(), JournalError> {
        let entry = Entry::Refuse { lease, seen_at: now };
        self.ask(|done| Request::Write(entry, Some(done))).await.map(|_| ())
    }

    /// The attempt ended. Durable soon, unless it is forgotten by then. Only the first end counts.
    pub(crate) async fn ended(&self, result: &RunResult) {
        self.tell(Entry::Ended(Box::new(result.clone()))).await;
    }

    /// The process runs; who it is, unless its cgroup says so. Durable soon.
    pub(crate) async fn started(&self, instance_id: InstanceId, process: Option<ProcessId>, at: Timestamp) {
        self.tell(Entry::Started { instance_id, process, at }).await;
    }

    /// The server has acknowledged the end, or it is not this agent's attempt any more. Durable soon.
    pub(crate) async fn forget(&self, instance_id: InstanceId) {
        self.tell(Entry::Forget(instance_id)).await;
    }

    /// After all that was asked and told before.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.ask(|done| Request::Last(Last::Close(done))).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the journal did not close well");
        }
    }

    async fn tell(&self, entry: Entry) {
        // The writer lives as long as somebody can ask.
        let _ = self.requests.send(Request::Write(entry, None)).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Request,
    ) -> Result<T, JournalError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

fn corrupt(row: &str, problem: impl std::fmt::Display) -> JournalError {
    JournalError::Corrupt { row: row.to_owned(), problem: problem.to_string() }
}
