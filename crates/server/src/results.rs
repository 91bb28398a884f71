//! What agents report of their attempts: from all sessions to the store, and the verdict back. Step 10 of the walk.
//!
//! One loop for the whole server. Ends are committed at once: what is reported while a commit is under way shares the
//! next one. How far an attempt has come is for people, and waits a moment: of one attempt only the last word is
//! written, and an attempt that has ended by then is never noted as started, because its end says when it started.
//! Nothing is retried here: the store applies the task's own policy.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hetuflow_core::{
    Clock,
    protocol::{ResultVerdict, RunResult, ToAgent},
    status::Status,
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Finish, Progress, Report, Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    AppState,
    hub::{Hub, SessionKey},
    ingest::chain,
    metrics::Metrics,
};

/// Reports that wait for their commit. When it is full sessions wait, and read nothing more from their agents.
const MAX_WAITING: usize = 1024;
/// Reports of one commit; each has a message's worth of results at most.
const AT_ONCE: usize = 512;
/// How long a word on how far an attempt has come waits for a later one. Most processes have ended by then.
pub(crate) const NOTE_AFTER: Duration = Duration::from_millis(100);
/// Waits before a failed commit is tried again. After the last one the sessions end, and their agents say all of it
/// again. Everything here is safe to repeat.
pub(crate) const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// A handle to the loop.
#[derive(Debug, Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Told>,
}

/// The loop's end.
pub(crate) struct ReportLoop {
    queue: mpsc::Receiver<Told>,
    store: Arc<dyn Store>,
    hub: Hub,
    clock: Clock,
    metrics: Arc<Metrics>,
    note_after: Duration,
    notes: HashMap<Lease, (SessionKey, Progress)>,
    /// When the oldest of the notes has waited long enough.
    notes_due: Option<Instant>,
}

/// Where the reports of one session go, in the order of what it said.
type Answer = oneshot::Sender<Result<Vec<Report>, String>>;

/// What one session had to say.
#[derive(Debug)]
enum Told {
    Progress { key: SessionKey, progress: Vec<Progress> },
    Ended { finishes: Vec<Finish>, answer: Answer },
}

/// The database keeps failing, or the server stops.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotRecorded(String);

impl Reporter {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        hub: Hub,
        clock: Clock,
        metrics: Arc<Metrics>,
        note_after: Duration,
    ) -> (Self, ReportLoop) {
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let (notes, notes_due) = (HashMap::new(), None);
        (
            Self { queue: sender },
            ReportLoop { queue, store, hub, clock, metrics, note_after, notes, notes_due },
        )
    }

    /// Notes how far attempts have come, soon; agents are told by the loop which are not theirs any more.
    pub(crate) async fn progress(
        &self,
        key: &SessionKey,
        progress: Vec<Progress>,
    ) -> Result<(), NotRecorded> {
        self.queue.send(Told::Progress { key: key.clone(), progress }).await.map_err(|_| stopping())
    }

    /// Ends attempts durably; only then may the verdicts be sent. The call queues them, what it yields waits for the
    /// commit. In the order of the batch.
    async fn ended(
        &self,
        finishes: Vec<Finish>,
    ) -> Result<impl Future<Output = Result<Vec<Report>, NotRecorded>> + Send + use<>, NotRecorded> {
        let (answer, recorded) = oneshot::channel();
        self.queue.send(Told::Ended { finishes, answer }).await.map_err(|_| stopping())?;
        Ok(async move { recorded.await.map_err(|_| stopping())?.map_err(NotRecorded) })
    }
}

#[cfg(test)]
impl Reporter {
    /// Waits until what was reported so far is written.
    pub(crate) async fn flush(&self) {
        self.ended(Vec::new()).await.expect("the loop runs").await.expect("written");
    }
}

fn stopping() -> NotRecorded {
    NotRecorded("the server is stopping".to_owned())
}

impl ReportLoop {
    /// Runs until `stop`, then writes what waits and ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut told = Vec::with_capacity(AT_ONCE);
        let mut open = true;
        loop {
            let due = self.notes_due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = stop.cancelled(), if open => {
                    open = false;
                    self.queue.close();
                }
                n = self.queue.recv_many(&mut told, AT_ONCE) => if n == 0 { return self.note().await },
                () = sleep_until(due), if self.notes_due.is_some() => {}
            }
            self.write(told.drain(..)).await;
        }
    }

    async fn write(&mut self, told: impl Iterator<Item = Told>) {
        let (mut finishes, mut waiters) = (Vec::new(), Vec::new());
        for one in told {
            match one {
                Told::Progress { key, progress: news } => {
                    // The later one says more.
                    self.notes.extend(news.into_iter().map(|one| (one.lease, (key.clone(), one))));
                }
                Told::Ended { finishes: ends, answer } => {
                    waiters.push((answer, ends.len()));
                    finishes.extend(ends);
                }
            }
        }
        failpoint!("report.before");
        for finish in &finishes {
            self.notes.remove(&finish.lease);
        }
        self.notes_due = match self.notes_due {
            _ if self.notes.is_empty() => None,
            None => Some(Instant::now() + self.note_after),
            due => due,
        };
        if self.notes_due.is_some_and(|due| due <= Instant::now()) {
            self.note().await;
        }
        failpoint!("report.between");
        self.end(finishes, waiters).await;
        failpoint!("report.after");
    }

    async fn note(&mut self) {
        self.notes_due = None;
        if self.notes.is_empty() {
            return;
        }
        let (keys, batch): (Vec<SessionKey>, Vec<Progress>) =
            self.notes.drain().map(|(_, note)| note).unzip();
        match insist(|| self.store.progress(&batch)).await {
            Ok(reports) => {
                for ((key, one), report) in keys.iter().zip(&batch).zip(reports) {
                    if report == Report::Fenced {
                        self.end_stale(key, one.lease);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "progress of attempts could not be noted; their agents start over"
                );
                for key in &keys {
                    self.hub.close(key);
                }
            }
        }
    }

    async fn end(&self, finishes: Vec<Finish>, waiters: Vec<(Answer, usize)>) {
        if let Ok(mut reports) = self.finish(&finishes).await {
            let recorded = reports.iter().filter(|report| **report == Report::Recorded).count();
            self.metrics.tasks_finished.add(recorded as u64);
            self.hub.tasks_ended(finishes.iter().map(|finish| finish.lease.task_id));
            failpoint!("report.before_answers");
            for (answer, count) in waiters {
                let rest = reports.split_off(count);
                // A session that has gone hears it at its agent's next hello.
                let _ = answer.send(Ok(std::mem::replace(&mut reports, rest)));
            }
            return;
        }
        // Perhaps it is one session's report that the store does not take: the others shall not suffer.
        let mut rest = finishes.as_slice();
        for (answer, count) in waiters {
            let (own, others) = rest.split_at(count);
            rest = others;
            let _ = answer.send(self.finish(own).await.map_err(|error| chain(&error)));
        }
    }

    /// The agent runs what is not its any more: it is told to end it. When the message finds no room the connection
    /// ends, and the next hello says it.
    fn end_stale(&self, key: &SessionKey, lease: Lease) {
        count_fenced(&self.metrics, lease);
        if !self.hub.send(&key.agent_id, ToAgent::Cancel { lease }) {
            self.hub.close(key);
        }
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Report>, StoreError> {
        if finishes.is_empty() {
            return Ok(Vec::new());
        }
        insist(|| self.store.finish(finishes, self.clock.now(), rand::random::<f64>())).await
    }
}

/// Repeats a store call that may succeed later. Only for calls that may run twice.
pub(crate) async fn insist<T, F, R>(mut call: F) -> Result<T, StoreError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, StoreError>>,
{
    for wait in RETRIES {
        match call().await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Database(_))) => {
                tracing::warn!(error = chain(&error), "store call failed, trying again");
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
    call().await
}

/// Counts, and says, that an agent reported on an attempt that is not its any more.
pub(crate) fn count_fenced(metrics: &Metrics, lease: Lease) {
    metrics.reports_fenced.inc();
    tracing::warn!(task.id = %lease.task_id, fence = lease.fence, "a report on an attempt that is not the agent's any more");
}

/// A batch of results on its way to the database, and then its verdicts.
pub(crate) type Settling = BoxFuture<'static, Result<Vec<(Lease, ResultVerdict)>, NotRecorded>>;

/// Ends the attempts durably; only then may the verdicts be sent. The call queues them, what it yields waits for the
/// commit. In the order of the batch. Safe to repeat.
pub(crate) async fn settle(state: &AppState, batch: Vec<RunResult>) -> Result<Settling, NotRecorded> {
    failpoint!("result.before_store");
    let recorded = state.reporter.ended(batch.iter().map(finish).collect()).await?;
    let state = state.clone();
    Ok(Box::pin(async move {
        let reports = recorded.await?;
        for (result, report) in batch.iter().zip(&reports) {
            log_end(&state, result, *report).await;
        }
        Ok(batch.iter().map(|result| result.lease).zip(reports.into_iter().map(verdict)).collect())
    }))
}

/// The answer to a report on an attempt that is not the agent's.
pub(crate) fn fenced(lease: Lease) -> ToAgent {
    ToAgent::ResultAck { lease, verdict: ResultVerdict::Fenced }
}

/// The task has been run before by an agent that remembers more than the database: it is lost, and its policy decides.
pub(crate) async fn forgotten(state: &AppState, lease: Lease) -> Result<(), StoreError> {
    tracing::error!(
        task.id = %lease.task_id, fence = lease.fence,
        "an agent has seen a newer attempt than the database knows: was it restored from a copy?"
    );
    let now = state.clock.now();
    let message =
        "an agent had this attempt or a newer one before; the database does not know what became of it";
    let outcome = Outcome::because(EndReason::Lost, message);
    let finish = Finish { lease, outcome, started_at: None, finished_at: now, output_dropped: 0 };
    state.store.finish(&[finish], now, rand::random()).await.map(|_| ())
}

/// An agent reports an end once no process of the attempt is left, whether or not it can say how it went.
fn finish(result: &RunResult) -> Finish {
    let gone = result.outcome.reason == EndReason::Lost;
    Finish {
        lease: result.lease,
        outcome: Outcome { gone, ..result.outcome.clone() },
        started_at: result.started_at,
        finished_at: result.finished_at,
        output_dropped: result.output_dropped,
    }
}

fn verdict(report: Report) -> ResultVerdict {
    match report {
        Report::Recorded => ResultVerdict::Recorded,
        Report::Fenced => ResultVerdict::Fenced,
    }
}

/// One line for what ended badly; what went well, or as somebody wanted it, is in the history.
async fn log_end(state: &AppState, result: &RunResult, report: Report) {
    let status = result.outcome.status();
    if matches!(status, Status::Succeeded | Status::Cancelled) {
        return;
    }
    // Its name is for people only: without it the line is still true.
    let trigger = match state.store.task(result.lease.task_id).await {
        Ok(task) => format!("{}/{}", task.namespace, task.trigger),
        Err(_) => "unknown".to_owned(),
    };
    tracing::warn!(
        task.id = %result.lease.task_id,
        instance.id = %result.lease.instance_id,
        trigger,
        %status,
        reason = ?result.outcome.reason,
        exit_code = result.outcome.exit_code,
        signal = result.outcome.signal,
        recorded = report == Report::Recorded,
        "attempt ended badly"
    );
}
