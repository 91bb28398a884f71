//! The one door to the store for events: group commit without a timer. What arrives while a commit is
//! in flight shares the next one, so an idle server answers after one commit and a busy one
//! commits many events at once. Step 5 of the walk.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hetuflow_failpoint::failpoint;
use hetuflow_store::{Ingest, Ingested, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Events that may wait for their commit; the next one is refused as [`IngestError::Overloaded`].
const MAX_WAITING: usize = 4096;
/// Bytes of body that may wait for their commit, likewise.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// One transaction takes at most this many events and, unless the first alone is larger, bytes.
const MAX_ROWS: usize = 500;
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A sender waits this long for its commit.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A transaction that takes longer is given up, so that one dead connection does not stop ingest for ever.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

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
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

/// One event on its way to a commit.
#[derive(Debug)]
struct Waiting {
    ingest: Ingest,
    answer: oneshot::Sender<Result<Ingested, IngestError>>,
    _bytes: OwnedSemaphorePermit,
}

impl Ingester {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> (Self, IngestLoop) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let ingester = Self { queue: sender, bytes: Arc::new(Semaphore::new(MAX_WAITING_BYTES)) };
        (ingester, IngestLoop { queue, store, metrics })
    }

    /// Resolves after the event is durably stored, or was found to be a duplicate. A caller that goes
    /// away before its commit has begun is not committed.
    pub async fn submit(&self, ingest: Ingest) -> Result<Ingested, IngestError> {
        let size = u32::try_from(size(&ingest)).map_err(|_| IngestError::Overloaded)?;
        let bytes =
            Arc::clone(&self.bytes).try_acquire_many_owned(size).map_err(|_| IngestError::Overloaded)?;
        let (answer, committed) = oneshot::channel();
        self.queue.try_send(Waiting { ingest, answer, _bytes: bytes }).map_err(|error| match error {
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
        let mut waiting = VecDeque::new();
        let mut arrived = Vec::with_capacity(MAX_ROWS);
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = stop.cancelled(), if !stop.is_cancelled() => self.queue.close(),
                    n = self.queue.recv_many(&mut arrived, MAX_ROWS) => if n == 0 { return },
                }
            } else {
                while waiting.len() + arrived.len() < MAX_ROWS
                    && let Ok(one) = self.queue.try_recv()
                {
                    arrived.push(one);
                }
            }
            waiting.extend(arrived.drain(..).filter(|one: &Waiting| !one.answer.is_closed()));
            let batch = take_batch(&mut waiting);
            if !batch.is_empty() {
                self.commit(batch).await;
            }
        }
    }

    /// One transaction for the whole batch. When the store refuses it for a reason that lies in one of
    /// its events, halves are tried, down to that event, so that one bad row never blocks another.
    async fn commit(&self, batch: Vec<Waiting>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.store_all(&part).await {
                Ok(ingested) => {
                    failpoint!("ingest.before_answers");
                    answer(part, ingested);
                    failpoint!("ingest.after_answers");
                }
                Err(Failure::Away(reason)) => {
                    // Halves would fare no better, and whoever waits shall hear it now.
                    parts.push(part);
                    parts.drain(..).for_each(|part| refuse(part, &reason));
                }
                Err(Failure::Refused(_)) if part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(Failure::Refused(reason)) => refuse(part, &reason),
            }
        }
    }

    #[tracing::instrument(name = "event.ingest", skip_all, fields(events = part.len()))]
    async fn store_all(&self, part: &[Waiting]) -> Result<Vec<Ingested>, Failure> {
        self.metrics.ingest_commits.inc();
        let events = part.iter().map(|one| one.ingest.clone()).collect();
        let failure = match tokio::time::timeout(COMMIT_WITHIN, self.store.ingest(events)).await {
            Ok(Ok(ingested)) => {
                self.metrics.ingest_events.add(ingested.len() as u64);
                return Ok(ingested);
            }
            Ok(Err(error @ StoreError::Unavailable(_))) => Failure::Away(chain(&error)),
            Ok(Err(error)) => Failure::Refused(chain(&error)),
            Err(_) => Failure::Away(format!("no commit within {} s", COMMIT_WITHIN.as_secs())),
        };
        self.metrics.ingest_failures.inc();
        tracing::warn!(events = part.len(), reason = failure.reason(), "events could not be committed");
        Err(failure)
    }
}

/// Why a transaction failed.
enum Failure {
    /// The database is away.
    Away(String),
    /// It does not take one of the events.
    Refused(String),
}

impl Failure {
    fn reason(&self) -> &str {
        match self {
            Self::Away(reason) | Self::Refused(reason) => reason,
        }
    }
}

fn answer(part: Vec<Waiting>, ingested: Vec<Ingested>) {
    for (one, ingested) in part.into_iter().zip(ingested) {
        // Whoever asked may be gone; the event is stored all the same.
        let _ = one.answer.send(Ok(ingested));
    }
}

fn refuse(part: Vec<Waiting>, reason: &str) {
    for one in part {
        let _ = one.answer.send(Err(IngestError::Store(reason.to_owned())));
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
fn take_batch(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    while let Some(next) = waiting.front() {
        bytes += size(&next.ingest);
        if batch.len() == MAX_ROWS || (!batch.is_empty() && bytes > MAX_BATCH_BYTES) {
            break;
        }
        batch.extend(waiting.pop_front());
    }
    batch
}

/// What an event weighs while it waits: its body, and something for the rest.
fn size(ingest: &Ingest) -> usize {
    ingest.event.body.len() + 1024 * (1 + ingest.tasks.len())
}
