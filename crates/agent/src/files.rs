//! What one connection tells about watched files. What to watch and what was seen is kept by
//! `hetuflow-watch`, across connections and restarts; here is only what this server has been told
//! already: the states of the watches, and one batch of files at a time until it is acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hetuflow_core::{
    id::EventId,
    protocol::{FileBatchAck, FileEvent, FileOutcome, FromAgent, WatchState},
};
use hetuflow_watch::{WatchError, Watcher};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Files of one batch.
const BATCH: u32 = 100;

/// Bytes of one batch, well below what a message may have.
const BATCH_SIZE: usize = 512 * 1024;

/// A batch without an answer is told again; the server knows each file by its dedupe key.
const RETELL: Duration = Duration::from_secs(30);

/// Events that are asked about together.
const ASKED: u32 = 100;

/// Between two rounds of questions, at first and at most.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_SELDOM: Duration = Duration::from_secs(10);

/// After an error of the watcher's own file.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct FileReports {
    watcher: Watcher,
    changes: watch::Receiver<u64>,
    states: BTreeMap<String, WatchState>,
    /// Key and dedupe key of what was told and is not acknowledged.
    in_flight: BTreeSet<(String, String)>,
    next: Look,
    recall: Recall,
    asking: Asking,
}

/// Whether the server still knows what it was told, which comes before everything else that is told or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recall {
    /// It has never known this agent.
    Stranger,
    Unasked,
    Asked,
    Settled,
}

/// Asks the server how the tasks of files stand that shall be moved or deleted afterwards: a page at a time, and again
/// after a while, because the answer changes elsewhere.
#[derive(Debug)]
struct Asking {
    /// The last place of the page before.
    last: i64,
    pause: Duration,
    next: Option<Instant>,
}

/// When to look for files to tell.
#[derive(Debug, Clone, Copy)]
enum Look {
    Now,
    /// Until then there is nothing new, or an answer to wait for.
    At(Instant),
    OnChange,
}

impl FileReports {
    pub(crate) fn new(watcher: Watcher, session_epoch: i64) -> Self {
        let changes = watcher.changes();
        let asking = Asking { last: 0, pause: ASK_AGAIN, next: None };
        let (states, in_flight) = (BTreeMap::new(), BTreeSet::new());
        // The first session that a database knows of an agent.
        let recall = if session_epoch <= 1 { Recall::Stranger } else { Recall::Unasked };
        Self { watcher, changes, states, in_flight, next: Look::Now, recall, asking }
    }

    /// Waits until [`FileReports::next`] may have something.
    pub(crate) async fn changed(&mut self) {
        let look = async {
            match self.next {
                Look::Now => {}
                Look::At(time) => sleep_until(time).await,
                Look::OnChange => std::future::pending().await,
            }
        };
        let ask = async {
            match self.asking.next {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ask => {}
            changed = self.changes.changed() => match changed {
                Ok(()) if self.in_flight.is_empty() => self.next = Look::Now,
                Ok(()) => {}
                // The watcher has stopped: nothing will change any more.
                Err(_) => std::future::pending().await,
            },
            () = look => {
                self.in_flight.clear();
                self.next = Look::Now;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<FromAgent> {
        if let Some(state) = self.news() {
            return Some(FromAgent::Watch(state));
        }
        if self.asking.next.is_some_and(|time| time <= Instant::now())
            && let Some(ask) = self.ask().await
        {
            return Some(ask);
        }
        if !matches!(self.next, Look::Now) {
            return None;
        }
        if self.recall != Recall::Settled {
            match self.recall().await {
                Ok(batch) if batch.is_empty() => self.recalled(),
                Ok(batch) => return Some(self.tell(batch)),
                Err(error) => {
                    self.failed(&error);
                    return None;
                }
            }
        }
        match self.watcher.pending(BATCH).await {
            Ok(pending) if pending.is_empty() => {
                self.next = Look::OnChange;
                None
            }
            Ok(pending) => Some(self.tell(first_of(pending))),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn tell(&mut self, batch: Vec<FileEvent>) -> FromAgent {
        self.in_flight = batch.iter().map(|file| (file.key.clone(), file.dedupe.clone())).collect();
        self.next = Look::At(Instant::now() + RETELL);
        FromAgent::Files { batch }
    }

    /// What shows whether the server has forgotten something; nothing, where that is known.
    async fn recall(&mut self) -> Result<Vec<FileEvent>, WatchError> {
        if self.recall == Recall::Stranger {
            self.watcher.forget_told().await?;
            return Ok(Vec::new());
        }
        self.recall = Recall::Asked;
        self.watcher.ask().await
    }

    fn recalled(&mut self) {
        self.recall = Recall::Settled;
        self.asking.next = Some(Instant::now());
    }

    pub(crate) async fn acknowledge(&mut self, batch: &[FileBatchAck]) {
        if let Err(error) = self.watcher.acknowledge(batch).await {
            // They are told again, and acknowledged again.
            self.failed(&error);
            return;
        }
        for ack in batch {
            self.in_flight.remove(&(ack.key.clone(), ack.dedupe.clone()));
        }
        if self.in_flight.is_empty() {
            self.next = Look::Now;
        }
        if self.recall != Recall::Settled {
            if self.in_flight.is_empty() {
                self.recalled();
            }
            return;
        }
        self.asking.pause = ASK_AGAIN;
        self.asking.next = Some(self.asking.next.unwrap_or_else(|| Instant::now() + ASK_AGAIN));
    }

    /// A question for the next page of what is waited for. Nothing more is asked before its answer, or a while without.
    async fn ask(&mut self) -> Option<FromAgent> {
        match self.watcher.awaited(self.asking.last, ASKED).await {
            Ok(page) if page.is_empty() => {
                let from_start = self.asking.last == 0;
                self.asking.last = 0;
                // Without anything to wait for, the next acknowledgement begins anew.
                self.asking.next = (!from_start).then(|| self.asking.again());
                None
            }
            Ok(page) => {
                self.asking.last = page.last().map_or(0, |(place, _)| *place);
                self.asking.next = Some(Instant::now() + RETELL);
                Some(FromAgent::FileOutcomes { events: page.into_iter().map(|(_, id)| id).collect() })
            }
            Err(error) => {
                self.failed(&error);
                self.asking.next = Some(Instant::now() + LOOK_AGAIN);
                None
            }
        }
    }

    pub(crate) async fn settle(&mut self, outcomes: &[(EventId, FileOutcome)]) {
        if outcomes.iter().any(|(_, outcome)| *outcome != FileOutcome::Open) {
            self.asking.pause = ASK_AGAIN;
        }
        // A page that was not full was the last one.
        if outcomes.len() < ASKED as usize {
            self.asking.last = 0;
            self.asking.next = Some(self.asking.again());
        } else {
            self.asking.next = Some(Instant::now());
        }
        if let Err(error) = self.watcher.settle(outcomes).await {
            // They are asked about again.
            self.failed(&error);
        }
    }

    /// A state that this connection has not told.
    fn news(&mut self) -> Option<WatchState> {
        let states = self.watcher.states();
        self.states.retain(|key, _| states.iter().any(|state| state.key == *key));
        let new = states.into_iter().find(|state| self.states.get(&state.key) != Some(state))?;
        self.states.insert(new.key.clone(), new.clone());
        Some(new)
    }

    fn failed(&mut self, error: &WatchError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the watcher's state cannot be used; trying on"
        );
        self.next = Look::At(Instant::now() + LOOK_AGAIN);
    }
}

impl Asking {
    /// When to ask from the start again: soon at first, and then less and less often.
    fn again(&mut self) -> Instant {
        let at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(ASK_SELDOM);
        at
    }
}

/// As many as fit into one message, and at least one.
fn first_of(pending: Vec<FileEvent>) -> Vec<FileEvent> {
    let mut room = BATCH_SIZE;
    let fits = |file: &FileEvent| {
        let size = serde_json::to_string(file).map_or(usize::MAX, |text| text.len());
        let fits = size <= room || room == BATCH_SIZE;
        room = room.saturating_sub(size);
        fits
    };
    pending.into_iter().take_while(fits).collect()
}
