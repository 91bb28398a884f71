//! What one connection tells about watched files. What to watch and what was seen is kept by
//! `hetuflow-watch`, across connections and restarts; here is only what this server has been told
//! already: the states of the watches, and one batch of files at a time until it is acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hetuflow_core::protocol::{FileBatchAck, FileEvent, FromAgent, WatchState};
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
    pub(crate) fn new(watcher: Watcher) -> Self {
        let changes = watcher.changes();
        Self { watcher, changes, states: BTreeMap::new(), in_flight: BTreeSet::new(), next: Look::Now }
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
        tokio::select! {
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
        if !matches!(self.next, Look::Now) {
            return None;
        }
        match self.watcher.pending(BATCH).await {
            Ok(pending) if pending.is_empty() => {
                self.next = Look::OnChange;
                None
            }
            Ok(pending) => {
                let batch = first_of(pending);
                self.in_flight = batch.iter().map(|file| (file.key.clone(), file.dedupe.clone())).collect();
                self.next = Look::At(Instant::now() + RETELL);
                Some(FromAgent::Files { batch })
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
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
