//! What one connection tells about watched files. What to watch and what was seen is kept by
//! `hetuflow-watch`, across connections and restarts; here is only what this server has been told
//! already: the states of the watches, and one batch of files at a time until it is acknowledged.

mod asking;
mod rooms;

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

use asking::Asking;
use rooms::Rooms;

/// Files of one batch.
const BATCH: u32 = 100;

/// Bytes of one batch, well below what a message may have.
const BATCH_SIZE: usize = 512 * 1024;

/// A batch without an answer is told again; the server knows each file by its dedupe key.
const RETELL: Duration = Duration::from_secs(30);

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
    rooms: Rooms,
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
        // Another server may have more room, and this one is asked anyway.
        watcher.forget_rooms();
        let (states, in_flight) = (BTreeMap::new(), BTreeSet::new());
        // The first session that a database knows of an agent.
        let recall = if session_epoch <= 1 { Recall::Stranger } else { Recall::Unasked };
        Self {
            watcher,
            changes,
            states,
            in_flight,
            next: Look::Now,
            recall,
            asking: Asking::new(),
            rooms: Rooms::new(),
        }
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
            match [self.asking.at(), self.rooms.at(Instant::now())].into_iter().flatten().min() {
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
        match self.asking.ask(&self.watcher).await {
            Ok(None) => {}
            Ok(Some(ask)) => return Some(ask),
            Err(error) => {
                self.asking.failed(Instant::now() + LOOK_AGAIN);
                self.failed(&error);
            }
        }
        if !matches!(self.next, Look::Now) {
            return self.rooms.ask(Instant::now());
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
        match self.watcher.pending(&self.rooms.full(), BATCH).await {
            Ok(pending) => {
                let batch = self.rooms.take(first_of(pending));
                if !batch.is_empty() {
                    return Some(self.tell(batch));
                }
                self.next = Look::OnChange;
                self.rooms.ask(Instant::now())
            }
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
        self.watcher.ask(BATCH_SIZE).await
    }

    fn recalled(&mut self) {
        self.recall = Recall::Settled;
        self.asking.begin();
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
        self.asking.acknowledged(&self.watcher);
    }

    /// The server takes so many more.
    pub(crate) async fn give_rooms(&mut self, rooms: &[(String, u64)]) {
        self.rooms.answered(rooms, Instant::now());
        if let Err(error) = self.watcher.set_rooms(rooms).await {
            return self.failed(&error);
        }
        if self.in_flight.is_empty() && self.recall == Recall::Settled {
            self.next = Look::Now;
        }
    }

    pub(crate) async fn settle(&mut self, outcomes: &[(EventId, FileOutcome)]) {
        self.asking.answered(outcomes);
        if let Err(error) = self.watcher.settle(outcomes).await {
            // They are asked about again.
            return self.failed(&error);
        }
        // What has ended may have been ahead of what waits to be told.
        let ended = outcomes.iter().any(|(_, outcome)| *outcome != FileOutcome::Open);
        if ended && self.in_flight.is_empty() {
            self.next = Look::Now;
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
