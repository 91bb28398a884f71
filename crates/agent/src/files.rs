//! The agent's side of file triggers: what to watch comes from the server and is kept on disk, so
//! that files are noticed while no server is there; what was seen goes to the server until it is
//! acknowledged. The watching itself is `hetuflow-watch`.

use std::collections::{BTreeMap, BTreeSet};

use hetuflow_core::protocol::{FileBatchAck, FileEvent, FromAgent, Watch, WatchState};
use tokio::sync::watch;

/// Until the crate that watches has its handle.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    changes: watch::Sender<u64>,
}

impl Watching {
    pub(crate) fn new() -> Self {
        Self { changes: watch::Sender::new(0) }
    }

    pub(crate) async fn set(&self, _watches: Vec<Watch>) {}
}

/// Files and states that one connection has told.
#[derive(Debug)]
pub(crate) struct FileReports {
    watching: Watching,
    changes: watch::Receiver<u64>,
}

impl FileReports {
    pub(crate) fn new(watching: Watching) -> Self {
        let changes = watching.changes.subscribe();
        Self { watching, changes }
    }

    pub(crate) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn next(&mut self) -> Option<FromAgent> {
        None
    }

    pub(crate) async fn acknowledge(&mut self, _batch: &[FileBatchAck]) {}
}
