//! Hints: where to look. A hint is never a fact, so one that is lost, doubled or late costs time
//! only. The system's events are one source of hints; the engine drains them and looks itself.

mod fanotify;
mod inotify;
mod sources;

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

pub(crate) use self::sources::{Added, Sources};

/// Tells where something happened in the directories that were added to it.
pub(crate) trait HintSource: Send {
    /// From now on changes to the entries of `dir` (not deeper) are told. Adding it again heals a
    /// watch that the system dropped.
    fn add_dir(&mut self, dir: &Path) -> Result<(), AddError>;

    fn remove_dirs(&mut self, gone: &HashSet<&Path>);
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddError {
    /// A limit of the system. What lies in this directory must be polled.
    #[error("the limit of inotify watches is reached: raise it with `{0}`")]
    Limit(&'static str),
    /// It is gone, or may not be read; listing it will tell.
    #[error("the directory cannot be reached")]
    Unreachable,
    #[error("{0}")]
    Other(String),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Hints were lost: look everywhere.
    pub(crate) lost: Option<Lost>,
    pub(crate) directories: BTreeMap<PathBuf, Names>,
}

impl Hints {
    /// Names, a whole directory counting as so many.
    pub(crate) fn len(&self) -> usize {
        let len = |names: &Names| match names {
            Names::Some(names) => names.len(),
            Names::All => MAX_NAMES,
        };
        if self.lost.is_some() { MAX_ENTRIES } else { self.directories.values().map(len).sum() }
    }
}

/// Who lost hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// We, because there were too many to keep, or they could not be read.
    Memory,
    /// The kernel: a queue was full.
    Inotify,
    Fanotify,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Each with the last that was said of it.
    Some(BTreeMap<OsString, Writer>),
    /// Too many to name: look at the whole directory.
    All,
}

/// So many names in one directory, and then it is the whole directory.
const MAX_NAMES: usize = 512;
/// So many entries, and then it is everything. What is dropped is found by looking, so this bounds
/// the memory and loses nothing.
const MAX_ENTRIES: usize = 65_536;

/// Collects hints between two drains, in bounded memory. Filled by the event thread, which must
/// never wait, emptied by the engine.
#[derive(Debug, Default)]
pub(crate) struct DirtySet {
    inner: Mutex<Dirty>,
    /// A writer has finished, as far as can be told: to be looked at now.
    pub(crate) finished: Notify,
    /// Something happened, and more is likely to follow.
    pub(crate) stirred: Notify,
}

/// What the system's event says about whoever made it. A guess: it decides when to look, and how long a file must have
/// been quiet, but never what a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// It has moved the file into place, which nobody does before it is complete.
    Placed,
    /// It has closed the file.
    Closed,
    Busy,
}

#[derive(Debug, Default)]
struct Dirty {
    hints: Hints,
    entries: usize,
}

impl DirtySet {
    pub(crate) fn mark(&self, path: &Path, writer: Writer) {
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
            self.mark_in(directory, name, writer);
        }
    }

    pub(crate) fn mark_in(&self, directory: &Path, name: &OsStr, writer: Writer) {
        self.lock().mark(directory, name, writer);
        match writer {
            Writer::Placed | Writer::Closed => self.finished.notify_one(),
            Writer::Busy => self.stirred.notify_one(),
        }
    }

    pub(crate) fn mark_all(&self, lost: Lost) {
        self.lock().overflow(lost);
        self.stirred.notify_one();
    }

    pub(crate) fn drain(&self) -> Hints {
        std::mem::take(&mut *self.lock()).hints
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dirty {
    fn mark(&mut self, directory: &Path, name: &OsStr, writer: Writer) {
        if self.hints.lost.is_some() {
            return;
        }
        let added = match self.hints.directories.get_mut(directory) {
            Some(Names::All) => false,
            Some(Names::Some(names)) if names.len() >= MAX_NAMES && !names.contains_key(name) => {
                self.entries -= names.len();
                self.hints.directories.insert(directory.to_owned(), Names::All);
                true
            }
            Some(Names::Some(names)) => names.insert(name.to_owned(), writer).is_none(),
            None => {
                let names = Names::Some(BTreeMap::from([(name.to_owned(), writer)]));
                self.hints.directories.insert(directory.to_owned(), names);
                true
            }
        };
        self.entries += usize::from(added);
        if self.entries > MAX_ENTRIES {
            self.overflow(Lost::Memory);
        }
    }

    fn overflow(&mut self, lost: Lost) {
        // The one that somebody can do something about is not forgotten.
        let lost = self.hints.lost.map_or(lost, |before| before.max(lost));
        *self = Self { hints: Hints { lost: Some(lost), directories: BTreeMap::new() }, entries: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_nothing_is_forgotten() {
        let dirty = DirtySet::default();
        for (name, writer) in [("a", Writer::Busy), ("b", Writer::Placed), ("a", Writer::Closed)] {
            dirty.mark(&Path::new("/in").join(name), writer);
        }
        let names = Names::Some(BTreeMap::from([("a".into(), Writer::Closed), ("b".into(), Writer::Placed)]));
        assert_eq!(dirty.drain(), Hints { lost: None, directories: BTreeMap::from([("/in".into(), names)]) });
        assert_eq!(dirty.drain(), Hints::default());

        for name in 0..=MAX_NAMES {
            dirty.mark(&Path::new("/in").join(name.to_string()), Writer::Busy);
        }
        dirty.mark(Path::new("/in/more"), Writer::Busy);
        assert_eq!(dirty.drain().directories, BTreeMap::from([("/in".into(), Names::All)]));

        for directory in 0..=MAX_ENTRIES {
            dirty.mark(&Path::new("/in").join(directory.to_string()).join("a"), Writer::Busy);
        }
        assert_eq!(dirty.drain(), Hints { lost: Some(Lost::Memory), directories: BTreeMap::new() });
        dirty.mark(Path::new("/in/a"), Writer::Busy);
        assert_eq!(dirty.drain().lost, None);
        dirty.mark_all(Lost::Inotify);
        dirty.mark_all(Lost::Memory);
        assert_eq!(dirty.drain().lost, Some(Lost::Inotify));
    }
}
