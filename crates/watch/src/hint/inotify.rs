//! Hints from inotify, through `notify`: one non-recursive watch per directory, because its recursive
//! mode loses files in directories that are new, and says nothing. Nothing else here knows `notify`.

use std::{collections::HashSet, io, path::Path, sync::Arc};

use notify::{
    Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

use super::{AddError, DirtySet, HintSource, Lost, Writer};

const WATCHES: &str = "sysctl fs.inotify.max_user_watches=1048576";
const INSTANCES: &str = "sysctl fs.inotify.max_user_instances=1024";

/// The system's events; where there are none to be had, a source that says so for every directory,
/// so that all of them are polled.
pub(crate) fn source(dirty: Arc<DirtySet>) -> Box<dyn HintSource> {
    let marker = Marker(dirty);
    match RecommendedWatcher::new(marker, Config::default().with_follow_symlinks(false)) {
        Ok(watcher) => Box::new(Inotify(watcher)),
        Err(error) => Box::new(Nothing(refusal(&error, INSTANCES))),
    }
}

/// Runs on the event thread. While it works nobody empties the kernel's queue, so it only marks.
struct Marker(Arc<DirtySet>);

impl notify::EventHandler for Marker {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            // An overflow has no path and an unspecific kind: it must be asked for before anything else.
            Ok(event) if event.need_rescan() => self.0.mark_all(Lost::Inotify),
            Ok(event) if is_reading(event.kind) => {}
            Ok(event) => {
                let mut paths = event.paths.iter();
                // The file that left comes first.
                if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
                    paths.next().into_iter().for_each(|from| self.0.mark(from, Writer::Busy));
                }
                let writer = writer(event.kind);
                paths.for_each(|path| self.0.mark(path, writer));
            }
            Err(_) => self.0.mark_all(Lost::Memory),
        }
    }
}

/// Our own looks open files and directories; they must not be hints.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// `IN_CLOSE_WRITE` and `IN_MOVED_TO` are the last events of most writers.
fn writer(kind: EventKind) -> Writer {
    match kind {
        EventKind::Access(_) => Writer::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Writer::Placed,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => Writer::Busy,
    }
}

struct Inotify(RecommendedWatcher);

impl HintSource for Inotify {
    fn add_dir(&mut self, dir: &Path) -> Result<(), AddError> {
        self.0.watch(dir, RecursiveMode::NonRecursive).map_err(|error| refusal(&error, WATCHES))
    }

    fn remove_dirs(&mut self, gone: &HashSet<&Path>) {
        for dir in gone {
            // An error says that the system has dropped it already.
            let _ = self.0.unwatch(dir);
        }
    }
}

struct Nothing(AddError);

impl HintSource for Nothing {
    fn add_dir(&mut self, _dir: &Path) -> Result<(), AddError> {
        Err(self.0.clone())
    }

    fn remove_dirs(&mut self, _gone: &HashSet<&Path>) {}
}

fn refusal(error: &notify::Error, remedy: &'static str) -> AddError {
    match &error.kind {
        ErrorKind::MaxFilesWatch => AddError::Limit(remedy),
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => AddError::Unreachable,
        ErrorKind::Io(source) if source.raw_os_error() == Some(libc::EMFILE) => AddError::Limit(remedy),
        ErrorKind::Io(source)
            if [io::ErrorKind::NotADirectory, io::ErrorKind::PermissionDenied].contains(&source.kind()) =>
        {
            AddError::Unreachable
        }
        ErrorKind::Io(_) | ErrorKind::Generic(_) | ErrorKind::InvalidConfig(_) => {
            AddError::Other(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use notify::{EventHandler, event::Flag};

    use super::*;
    use crate::hint::Names;

    #[test]
    fn an_overflow_has_no_path_and_is_not_missed() {
        let dirty = Arc::new(DirtySet::default());
        Marker(Arc::clone(&dirty)).handle_event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert_eq!(dirty.drain().lost, Some(Lost::Inotify));
    }

    #[test]
    fn reading_is_no_hint() {
        let dirty = Arc::new(DirtySet::default());
        let mut marker = Marker(Arc::clone(&dirty));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        marker.handle_event(Ok(Event::new(open).add_path("/in/a".into())));
        assert!(dirty.drain().directories.is_empty());
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        marker.handle_event(Ok(Event::new(close).add_path("/in/a".into())));
        assert_eq!(dirty.drain().directories.len(), 1);
    }

    #[test]
    fn who_moves_a_file_has_finished_it() {
        let dirty = Arc::new(DirtySet::default());
        let mut marker = Marker(Arc::clone(&dirty));
        let moved = |mode| Event::new(EventKind::Modify(ModifyKind::Name(mode)));
        marker.handle_event(Ok(moved(RenameMode::From).add_path("/in/a".into())));
        marker.handle_event(Ok(moved(RenameMode::To).add_path("/in/b".into())));
        marker.handle_event(Ok(moved(RenameMode::Both).add_path("/in/a".into()).add_path("/in/b".into())));
        let names = BTreeMap::from([("a".into(), Writer::Busy), ("b".into(), Writer::Placed)]);
        assert_eq!(dirty.drain().directories, BTreeMap::from([("/in".into(), Names::Some(names))]));
    }

    #[tokio::test]
    async fn the_system_tells_what_is_moved_in() {
        let (watched, elsewhere) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let dirty = Arc::new(DirtySet::default());
        let mut hints = source(Arc::clone(&dirty));
        hints.add_dir(watched.path()).expect("watched");
        std::fs::write(elsewhere.path().join("a"), "1").expect("written");
        std::fs::rename(elsewhere.path().join("a"), watched.path().join("a")).expect("moved");
        dirty.finished.notified().await;
        let names = Names::Some(BTreeMap::from([("a".into(), Writer::Placed)]));
        assert_eq!(dirty.drain().directories, BTreeMap::from([(watched.path().to_owned(), names)]));
    }
}
