//! Hints from fanotify: one mark tells of a whole file system, so that a tree of any size needs no watch of the kernel's for
//! each directory. Its events name a directory by a handle; those that were added are known by theirs, and what happens in
//! all others is dropped for the price of a look into a table. No handle is ever opened: that would need one more
//! capability, and could only tell what the table does. Part of `Sources`.

mod event;
mod places;
mod system;

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle as Runtime,
    task::JoinHandle,
};

use self::{
    event::{Event, Events, Malformed},
    places::Places,
    system::Handle,
};
use super::{AddError, DirtySet, HintSource, Lost, Writer};

/// Some thousand events.
const BUFFER: usize = 256 * 1024;

/// So many places are kept before one is asked whether it is still there.
const FEW: usize = 1024;

/// So many are asked each time that one is added, so that no turn waits for all of them.
const SWEEP: usize = 2;

pub(crate) struct Fanotify {
    dirty: Arc<DirtySet>,
    runtime: Runtime,
    /// While any directory is watched.
    group: Option<Group>,
}

/// A queue of the kernel's, and who reads it.
struct Group {
    queue: Arc<AsyncFd<OwnedFd>>,
    places: Arc<Mutex<Places>>,
    reader: JoinHandle<()>,
    /// A directory of each file system of which none is watched any more.
    unneeded: Vec<PathBuf>,
    unswept: Vec<Handle>,
    sweep_at: usize,
}

impl Fanotify {
    /// Within a runtime, which reads the events.
    pub(crate) fn new(dirty: Arc<DirtySet>) -> Self {
        Self { dirty, runtime: Runtime::current(), group: None }
    }

    fn group(&mut self) -> Result<&mut Group, AddError> {
        // A reader that gave up has asked for a look at everything, which adds all directories again.
        let group = match self.group.take().filter(|group| !group.reader.is_finished()) {
            Some(group) => group,
            None => Group::start(&self.runtime, &self.dirty)?,
        };
        Ok(self.group.insert(group))
    }
}

impl HintSource for Fanotify {
    fn add_dir(&mut self, dir: &Path) -> Result<(), AddError> {
        let directory = system::open(dir).map_err(refusal)?;
        let group = self.group()?;
        // Each time, for another file system may be mounted where one was.
        system::mark(group.queue.as_fd(), &directory).map_err(refusal)?;
        group.put(system::handle(&directory).map_err(refusal)?, dir);
        Ok(())
    }

    /// Asks no file system anything.
    fn remove_dirs(&mut self, gone: &HashSet<&Path>) {
        let Some(group) = &mut self.group else { return };
        let unneeded = group.places().remove(gone);
        group.unneeded.extend(unneeded);
        if group.places().is_empty() {
            self.group = None;
        }
    }
}

impl Group {
    fn start(runtime: &Runtime, dirty: &Arc<DirtySet>) -> Result<Self, AddError> {
        let queue = system::group().map_err(refusal)?;
        let queue = {
            let _within = runtime.enter();
            Arc::new(poll(queue).map_err(|error| AddError::Other(error.to_string()))?)
        };
        let places = Arc::default();
        let reader = runtime.spawn(read(Arc::clone(&queue), Arc::clone(&places), Arc::clone(dirty)));
        Ok(Self { queue, places, reader, unneeded: Vec::new(), unswept: Vec::new(), sweep_at: FEW })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        lock(&self.places)
    }

    fn put(&mut self, handle: Handle, dir: &Path) {
        // It was moved, or a mount shows it twice.
        let others = self.places().others(&handle, dir);
        let still = others.into_iter().filter(|other| is_at(other, &handle)).collect();
        self.places().put(handle, dir, still);
        self.unmark();
        self.sweep();
    }

    fn unmark(&mut self) {
        for dir in std::mem::take(&mut self.unneeded) {
            let Ok(directory) = system::open(&dir) else { continue };
            let handle = system::handle(&directory);
            if handle.is_ok_and(|handle| !self.places().needs(&handle)) {
                // An error says that the mark is gone already. Whatever it would tell is dropped.
                let _ = system::unmark(self.queue.as_fd(), &directory);
            }
        }
    }

    /// Forgets directories that were deleted, or moved out of the tree, a few at a time and only once there may be many.
    fn sweep(&mut self) {
        if self.unswept.is_empty() {
            if self.places().len() < self.sweep_at {
                return;
            }
            self.unswept = lock(&self.places).handles();
        }
        for handle in self.unswept.drain(self.unswept.len().saturating_sub(SWEEP)..) {
            let known = lock(&self.places).at(&handle).to_vec();
            let still: Vec<_> = known.iter().filter(|dir| is_at(dir, &handle)).cloned().collect();
            if still.len() < known.len() {
                lock(&self.places).set(handle, still);
            }
        }
        if self.unswept.is_empty() {
            self.sweep_at = FEW.max(2 * lock(&self.places).len());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn is_at(dir: &Path, handle: &Handle) -> bool {
    system::open(dir).and_then(|directory| system::handle(&directory)).is_ok_and(|found| found == *handle)
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(deprecated, reason = "the new form is unsafe for the sake of types that are no files")]
fn poll(queue: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(queue, Interest::READABLE)
}

/// Only marks: while it works nobody empties the kernel's queue. It asks no file system anything.
async fn read(queue: Arc<AsyncFd<OwnedFd>>, places: Arc<Mutex<Places>>, dirty: Arc<DirtySet>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let taken = match queue.readable().await {
            Ok(mut ready) => {
                ready.try_io(|queue| Ok(rustix::io::read(queue.get_ref(), buffer.as_mut_slice())?))
            }
            Err(error) => Ok(Err(error)),
        };
        match taken {
            Ok(Ok(length)) => tell(&buffer[..length], &lock(&places), &dirty),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "events of fanotify cannot be read");
                return dirty.mark_all(Lost::Memory);
            }
            Err(_nothing_there) => {}
        }
    }
}

fn tell(buffer: &[u8], places: &Places, dirty: &DirtySet) {
    for event in Events::new(buffer) {
        match event {
            Ok(Event::Happened { mask, directory, name }) => {
                for place in places.at(directory) {
                    match name {
                        Some(name) => dirty.mark_in(place, name, writer(mask)),
                        None => dirty.mark(place, Writer::Busy),
                    }
                }
            }
            Ok(Event::Overflow) => dirty.mark_all(Lost::Fanotify),
            Ok(Event::Nothing) => {}
            Err(Malformed) => dirty.mark_all(Lost::Memory),
        }
    }
}

/// The kernel makes one event of several about one name, and does not say which was the last: what was written to as well was
/// not just moved into place.
fn writer(mask: u64) -> Writer {
    if mask & libc::FAN_CLOSE_WRITE != 0 {
        Writer::Closed
    } else if mask & (libc::FAN_MOVED_TO | libc::FAN_MODIFY) == libc::FAN_MOVED_TO {
        Writer::Placed
    } else {
        Writer::Busy
    }
}

/// Which limit it is, and what helps.
fn refusal(errno: Errno) -> AddError {
    let reason = match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS => return AddError::Unreachable,
        Errno::PERM => {
            "the agent lacks CAP_SYS_ADMIN, which root has where it is not confined: grant it (AmbientCapabilities= of systemd)"
        }
        Errno::NODEV | Errno::OPNOTSUPP | Errno::XDEV | Errno::OVERFLOW => {
            "its file system cannot be marked as a whole (no id or no handles; overlayfs without nfs_export, a subvolume of btrfs)"
        }
        Errno::INVAL | Errno::NOSYS => "this kernel cannot name directories in events (Linux can since 5.9)",
        Errno::MFILE => "too many queues: raise the limit with `sysctl fs.fanotify.max_user_groups=1024`",
        Errno::NOSPC => "too many marks: raise the limit with `sysctl fs.fanotify.max_user_marks=1048576`",
        _ => return AddError::Other(format!("fanotify failed: {errno}")),
    };
    AddError::Other(format!("{reason}; or write backend = \"auto\" ({errno})"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::hint::Names;

    /// `None`, loudly, where it may not be used.
    fn source(dirty: &Arc<DirtySet>, dir: &Path) -> Option<Fanotify> {
        let mut fanotify = Fanotify::new(Arc::clone(dirty));
        match fanotify.add_dir(dir) {
            Ok(()) => Some(fanotify),
            Err(error) => {
                eprintln!("NOT TESTED: {error}");
                None
            }
        }
    }

    /// All that is told until the directory `last` is.
    async fn told(dirty: &DirtySet, last: &Path) -> BTreeMap<PathBuf, Names> {
        let mut all = BTreeMap::new();
        while !all.contains_key(last) {
            tokio::select! {
                () = dirty.finished.notified() => {}
                () = dirty.stirred.notified() => {}
            }
            all.extend(dirty.drain().directories);
        }
        all
    }

    fn one(name: &str, writer: Writer) -> Names {
        Names::Some(BTreeMap::from([(name.into(), writer)]))
    }

    #[tokio::test]
    async fn the_system_tells_of_what_was_added_and_of_nothing_else() {
        let home = tempfile::tempdir().expect("made");
        let [watched, foreign, later] = ["watched", "foreign", "later"].map(|name| home.path().join(name));
        for dir in [&watched, &foreign, &later] {
            fs::create_dir(dir).expect("made");
        }
        let dirty = Arc::new(DirtySet::default());
        let Some(mut fanotify) = source(&dirty, &watched) else { return };
        fs::write(foreign.join("a"), "1").expect("written");
        fs::rename(foreign.join("a"), watched.join("a")).expect("moved");
        let all = told(&dirty, &watched).await;
        assert_eq!(all, BTreeMap::from([(watched.clone(), one("a", Writer::Placed))]));

        // A directory that is moved is told of by the name that it was added with, until it is added again.
        let moved = home.path().join("moved");
        fs::rename(&watched, &moved).expect("moved");
        assert!(told(&dirty, home.path()).await.contains_key(home.path()), "it tells that it was moved");
        fanotify.add_dir(&moved).expect("added");
        fs::write(moved.join("b"), "1").expect("written");
        let all = told(&dirty, &moved).await;
        assert!(!all.contains_key(&watched), "{all:?}");

        fanotify.add_dir(&later).expect("added");
        fanotify.remove_dirs(&HashSet::from([moved.as_path()]));
        fs::write(moved.join("c"), "1").expect("written");
        fs::write(later.join("c"), "1").expect("written");
        let all = told(&dirty, &later).await;
        assert!(all.into_keys().eq([later.clone()]));
        fanotify.remove_dirs(&HashSet::from([later.as_path()]));
        assert!(fanotify.group.is_none());
    }

    #[tokio::test]
    async fn directories_that_are_gone_are_forgotten() {
        let home = tempfile::tempdir().expect("made");
        let Some(mut fanotify) = source(&Arc::default(), home.path()) else { return };
        for number in 0..4 * FEW {
            let dir = home.path().join(number.to_string());
            fs::create_dir(&dir).expect("made");
            fanotify.add_dir(&dir).expect("added");
            fs::remove_dir(&dir).expect("removed");
        }
        let known = fanotify.group.as_ref().expect("in use").places().len();
        assert!(known <= 2 * FEW, "{known}");
    }

    #[test]
    fn what_was_written_to_was_not_just_placed() {
        assert_eq!(writer(libc::FAN_MOVED_TO | libc::FAN_ATTRIB), Writer::Placed);
        assert_eq!(writer(libc::FAN_MOVED_TO | libc::FAN_MODIFY), Writer::Busy);
        assert_eq!(writer(libc::FAN_MOVED_TO | libc::FAN_CLOSE_WRITE), Writer::Closed);
        assert_eq!(writer(libc::FAN_CREATE), Writer::Busy);
    }

    #[test]
    fn each_refusal_says_what_helps() {
        for (errno, says) in [
            (Errno::PERM, "CAP_SYS_ADMIN"),
            (Errno::OPNOTSUPP, "backend = \"auto\""),
            (Errno::NODEV, "no id"),
            (Errno::XDEV, "subvolume"),
            (Errno::INVAL, "since 5.9"),
            (Errno::MFILE, "max_user_groups"),
        ] {
            let reason = refusal(errno).to_string();
            assert!(reason.contains(says), "{reason}");
        }
        assert_eq!(refusal(Errno::NOENT), AddError::Unreachable);
    }
}
