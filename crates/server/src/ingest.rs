//! The one door to the store for events: group commit without a timer. What arrives while a commit is
//! in flight shares the next one, so an idle server answers after one commit and a busy one
//! commits many events at once. Where an agent of this server has room, a task is leased in the commit that
//! stores it and pushed at once: nothing is written or read a second time. Step 5 of the walk.

mod commit;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use hetuflow_store::{Ingest, Ingested};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;
use commit::{Batch, Committer};

/// Events that may wait for their commit; the next one is refused as [`IngestError::Overloaded`].
const MAX_WAITING: usize = 4096;
/// Bytes of body that may wait for their commit, likewise.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// One transaction takes at most this many events and, unless the first alone is larger, bytes.
const MAX_ROWS: usize = 500;
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A commit beside another begins with at least so many events: fewer cost less together in the next one. With 16 senders
/// PostgreSQL took 165 microseconds for each event when two commits shared them, and 96 with one at a time.
const WORTH: usize = 64;
/// A sender waits this long for its commit.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A handle to the ingest loop.
#[derive(Debug, Clone)]
pub struct Ingester {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// More waits for a commit than is allowed; nothing was stored. Try again.
    #[error("too much waits for the database")]
    Overloaded,
    /// Nothing was stored, as far as anyone knows: a later attempt with the same key is safe.
    #[error("the database did not commit: {0}")]
    Store(String),
}

/// The loop's end of the channel.
pub(crate) struct IngestLoop {
    queue: mpsc::Receiver<Waiting>,
    committer: Committer,
}

/// One event on its way to a commit.
#[derive(Debug)]
struct Waiting {
    ingest: Ingest,
    waiter: Waiter,
}

/// Who waits for it.
#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Result<Ingested, IngestError>>,
    _bytes: OwnedSemaphorePermit,
}

impl Ingester {
    pub(crate) fn new(dispatcher: Dispatcher) -> (Self, IngestLoop) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let ingester = Self { queue: sender, bytes: Arc::new(Semaphore::new(MAX_WAITING_BYTES)) };
        (ingester, IngestLoop { queue, committer: Committer::new(dispatcher) })
    }

    /// Resolves after the event is durably stored, or was found to be a duplicate. A caller that goes
    /// away before its commit has begun is not committed.
    pub async fn submit(&self, ingest: Ingest) -> Result<Ingested, IngestError> {
        let size = u32::try_from(size(&ingest)).map_err(|_| IngestError::Overloaded)?;
        let bytes =
            Arc::clone(&self.bytes).try_acquire_many_owned(size).map_err(|_| IngestError::Overloaded)?;
        let (answer, committed) = oneshot::channel();
        let waiter = Waiter { answer, _bytes: bytes };
        self.queue.try_send(Waiting { ingest, waiter }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        match tokio::time::timeout(ANSWER_WITHIN, committed).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(IngestError::Store(format!("no commit within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }
}

impl IngestLoop {
    /// Runs until `stop`, then commits what waits and ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let at_once = self.committer.at_once();
        // Whether a stop may still be asked for, and whether the queue may bring more.
        let (mut open, mut more) = (true, true);
        // In this task, not in tasks of their own: an event on an idle server need not wait for another thread.
        let mut commits = FuturesUnordered::new();
        let mut waiting = VecDeque::new();
        let mut arrived = Vec::with_capacity(MAX_ROWS);
        loop {
            while waiting.len() + arrived.len() < MAX_ROWS
                && let Ok(one) = self.queue.try_recv()
            {
                arrived.push(one);
            }
            waiting.extend(arrived.drain(..).filter(|one: &Waiting| !one.waiter.answer.is_closed()));
            let worth = if commits.is_empty() { 1 } else { WORTH };
            if commits.len() < at_once && waiting.len() >= worth {
                let commit = self.committer.commit(take_batch(&mut waiting));
                commits.push(AssertUnwindSafe(commit).catch_unwind());
                continue;
            }
            if !more && waiting.is_empty() && commits.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if open => {
                    open = false;
                    self.queue.close();
                }
                Some(done) = commits.next() => note_panic(&done),
                n = self.queue.recv_many(&mut arrived, MAX_ROWS), if more && commits.len() < at_once => more = n > 0,
            }
        }
    }
}

fn note_panic(commit: &std::thread::Result<()>) {
    if commit.is_err() {
        // Its senders hear that the server is stopping, and send again.
        tracing::error!("a commit failed unexpectedly");
    }
}

fn stopping() -> IngestError {
    IngestError::Store("the server is stopping".to_owned())
}

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// From the front, as many as one transaction takes, and at least one.
fn take_batch(waiting: &mut VecDeque<Waiting>) -> Batch {
    let mut bytes = 0;
    let mut batch = Batch::default();
    while let Some(next) = waiting.front() {
        bytes += size(&next.ingest);
        if batch.len() == MAX_ROWS || (!batch.is_empty() && bytes > MAX_BATCH_BYTES) {
            break;
        }
        if let Some(Waiting { ingest, waiter }) = waiting.pop_front() {
            batch.push(ingest, waiter);
        }
    }
    batch
}

/// What an event weighs while it waits: its body, and something for the rest.
fn size(ingest: &Ingest) -> usize {
    ingest.event.body.len() + 1024 * (1 + ingest.tasks.len())
}
