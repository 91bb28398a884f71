//! What one turn of the engine decided, to be committed in one transaction.

use std::path::PathBuf;

use hetuflow_core::protocol::FileEvent;

use crate::{state::RootRecord, version::Version};

/// So many files in one transaction, so that no commit takes long and a stop need not wait.
const MAX_FILES: usize = 2000;

#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) parts: Vec<Part>,
    pub(crate) events: Vec<FileEvent>,
    /// Events that still fit into the outbox.
    room: usize,
    files: usize,
}

/// The part of one watch.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) slot: String,
    pub(crate) files: Vec<Remember>,
    pub(crate) roots: Vec<RootRecord>,
    /// The last baseline that was missing is in this part.
    pub(crate) baseline_done: bool,
}

/// The version to remember of a file; `None` forgets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remember {
    pub(crate) path: PathBuf,
    pub(crate) version: Option<Version>,
}

impl Turn {
    pub(crate) const fn new(room: usize) -> Self {
        Self { parts: Vec::new(), events: Vec::new(), room, files: 0 }
    }

    /// Adds what is decided about one file (or two, for a move).
    pub(crate) fn decide(&mut self, part: &mut Part, files: Vec<Remember>, events: Vec<FileEvent>) {
        self.files += 1;
        part.files.extend(files);
        self.events.extend(events);
    }

    /// Nothing more can be decided before an acknowledgement: what is not decided stays on disk. (The
    /// last file may make two events, so the outbox may hold one more than its bound.)
    pub(crate) const fn has_no_room(&self) -> bool {
        self.events.len() >= self.room
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.files >= MAX_FILES || self.has_no_room()
    }

    pub(crate) fn push(&mut self, part: Part) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Part {
    pub(crate) const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.roots.is_empty() && !self.baseline_done
    }
}
