//! What one turn of the engine decided, to be committed in one transaction.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use hetuflow_core::protocol::FileEvent;

use crate::{fate::Fate, state::RootRecord, version::Version};

/// Events in the outbox, at most. Beyond that, files wait on disk.
pub(crate) const MAX_OUTBOX: usize = 10_000;

/// No batch is told while so many events wait.
const MAX_BATCHES: usize = 100;

/// So many files in one transaction, so that no commit takes long and a stop need not wait.
const MAX_FILES: usize = 2000;

#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) parts: Vec<Part>,
    pub(crate) events: Vec<FileEvent>,
    /// Events that still fit into the outbox.
    room: usize,
    /// Events that the server still takes, by key. Of what is not known there is no end.
    rooms: Rooms,
    files: usize,
}

/// How many more events of each key there may be.
pub(crate) type Rooms = BTreeMap<String, u64>;

/// The part of one watch.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) slot: String,
    pub(crate) files: Vec<Remember>,
    pub(crate) roots: Vec<RootRecord>,
    /// Files that become part of a batch.
    pub(crate) members: Vec<Member>,
    /// Batches that are told.
    pub(crate) closed: Vec<Closed>,
    /// The numbers that are next from now on, by group.
    pub(crate) sequences: BTreeMap<String, u64>,
    /// Who is ahead from now on in lines of a strict order: the dedupe key of the event, by group.
    pub(crate) lines: BTreeMap<String, String>,
    /// Files with something to become.
    pub(crate) fates: Vec<Fate>,
    /// Files that were refused.
    pub(crate) rejected: u64,
    /// The last baseline that was missing is in this part.
    pub(crate) baseline_done: bool,
}

/// The version to remember of a file; `None` forgets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remember {
    pub(crate) path: PathBuf,
    pub(crate) version: Option<Version>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) event: FileEvent,
}

/// Members that are told in one event now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) group: String,
    /// The dedupe key of their one event.
    pub(crate) event: String,
    /// Their dedupe keys.
    pub(crate) members: HashSet<String>,
}

impl Turn {
    pub(crate) const fn new(room: usize, rooms: Rooms) -> Self {
        Self { parts: Vec::new(), events: Vec::new(), room, rooms, files: 0 }
    }

    /// Adds what is decided about one file (or two, for a move).
    pub(crate) fn decide(&mut self, part: &mut Part, files: Vec<Remember>, events: Vec<FileEvent>) {
        self.files += 1;
        part.files.extend(files);
        for event in events {
            self.tell(event);
        }
    }

    pub(crate) fn tell(&mut self, event: FileEvent) {
        if let Some(room) = self.rooms.get_mut(&event.key).filter(|_| !event.facts.is_notice()) {
            *room = room.saturating_sub(1);
        }
        self.events.push(event);
    }

    /// Whether the server takes one more event of this trigger.
    pub(crate) fn has_room_of(&self, key: &str) -> bool {
        self.rooms.get(key).is_none_or(|room| *room > 0)
    }

    /// A file was looked at, and waits for others.
    pub(crate) const fn pass_over(&mut self) {
        self.files += 1;
    }

    /// Nothing more can be decided before an acknowledgement: what is not decided stays on disk. (The
    /// last file may make two events, so the outbox may hold one more than its bound.)
    pub(crate) const fn has_no_room(&self) -> bool {
        self.events.len() >= self.room
    }

    /// A batch is as large as many events, so fewer of them may wait.
    pub(crate) const fn has_room_for_batch(&self) -> bool {
        self.room + MAX_BATCHES > MAX_OUTBOX + self.events.len()
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
        self.parts.is_empty() && self.events.is_empty()
    }
}

impl Part {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.roots.is_empty()
            && self.members.is_empty()
            && self.closed.is_empty()
            && self.sequences.is_empty()
            && self.lines.is_empty()
            && self.fates.is_empty()
            && !self.baseline_done
    }
}
