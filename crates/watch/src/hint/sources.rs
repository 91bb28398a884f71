//! Which source tells of a directory: the one that its trigger asks for, and inotify where that one cannot.

use std::{collections::HashSet, path::Path, sync::Arc};

use hetuflow_core::trigger::Backend;

use super::{AddError, DirtySet, HintSource, Hints, fanotify::Fanotify, inotify};

pub(crate) struct Sources {
    inotify: Box<dyn HintSource>,
    fanotify: Fanotify,
    dirty: Arc<DirtySet>,
}

/// How a directory was added.
#[derive(Debug)]
pub(crate) struct Added {
    /// Why it is not told of by what was asked for, and what helps.
    pub(crate) instead: Option<String>,
    pub(crate) result: Result<(), AddError>,
}

impl Sources {
    /// Within a runtime.
    pub(crate) fn new(dirty: Arc<DirtySet>) -> Self {
        let inotify = inotify::source(Arc::clone(&dirty));
        Self { inotify, fanotify: Fanotify::new(Arc::clone(&dirty)), dirty }
    }

    pub(crate) fn add_dir(&mut self, dir: &Path, backend: Backend) -> Added {
        let asked = match backend {
            Backend::Poll => Ok(()),
            Backend::Auto => self.inotify.add_dir(dir),
            Backend::Fanotify => self.fanotify.add_dir(dir),
        };
        match asked {
            Err(AddError::Limit(_) | AddError::Other(_)) if backend == Backend::Fanotify => {
                let instead = asked.err().map(|error| error.to_string());
                Added { instead, result: self.inotify.add_dir(dir) }
            }
            result => Added { instead: None, result },
        }
    }

    /// Nobody needs these any more.
    pub(crate) fn remove_dirs(&mut self, gone: &HashSet<&Path>) {
        self.inotify.remove_dirs(gone);
        self.fanotify.remove_dirs(gone);
    }

    /// Everything since the last call.
    pub(crate) fn drain(&self) -> Hints {
        self.dirty.drain()
    }
}
