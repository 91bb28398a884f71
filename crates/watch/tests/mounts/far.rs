//! A remote file system: what is written to its other side makes no event here, and its answers can be held back. Made of
//! FUSE, and a folder that is the other side.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, SystemTime},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, Request,
};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tempfile::TempDir;

pub(crate) struct Far {
    side: Arc<TempDir>,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

/// What is answered.
#[derive(Default)]
struct Gate {
    mode: Mutex<Mode>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mode {
    #[default]
    Truth,
    Nothing,
    /// That there is an error.
    Error,
}

impl Far {
    pub(crate) fn mount(point: &Path) -> Self {
        Self::mount_side(Arc::new(tempfile::tempdir().expect("a folder")), point)
    }

    /// Unmounts, and yields what mounts the same again.
    pub(crate) fn unmount(mut self) -> impl FnOnce(&Path) -> Self {
        self.end();
        let side = Arc::clone(&self.side);
        move |point| Self::mount_side(side, point)
    }

    fn mount_side(side: Arc<TempDir>, point: &Path) -> Self {
        let gate = Arc::new(Gate::default());
        fs::create_dir_all(point).expect("a folder");
        let paths = Mutex::new(HashMap::from([(INodeNo::ROOT.0, side.path().to_owned())]));
        let answers = Answers { gate: Arc::clone(&gate), paths };
        let session = fuser::spawn_mount(answers, point, &Config::default()).expect("mounted with /dev/fuse");
        Self { side, gate, session: Some(session) }
    }

    /// Written by another machine, as it were.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    /// On the other side.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.side.path().join(path)
    }

    /// From now on nothing is answered.
    pub(crate) fn hold(&self) {
        self.turn(Mode::Nothing);
    }

    /// From now on every answer is an error.
    pub(crate) fn fail(&self) {
        self.turn(Mode::Error);
    }

    pub(crate) fn release(&self) {
        self.turn(Mode::Truth);
    }

    fn turn(&self, mode: Mode) {
        *self.gate.mode.lock().expect("not poisoned") = mode;
        self.gate.changed.notify_all();
    }

    /// Who waits for an answer could not end.
    fn end(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.end();
    }
}

struct Answers {
    gate: Arc<Gate>,
    paths: Mutex<HashMap<u64, PathBuf>>,
}

/// Nothing is kept in mind here: each question goes to the other side.
const NEVER: Duration = Duration::ZERO;

impl Answers {
    fn path(&self, ino: INodeNo) -> Result<PathBuf, Errno> {
        let mut mode = self.gate.mode.lock().expect("not poisoned");
        while *mode == Mode::Nothing {
            mode = self.gate.changed.wait(mode).expect("not poisoned");
        }
        if *mode == Mode::Error {
            return Err(Errno::EIO);
        }
        self.paths.lock().expect("not poisoned").get(&ino.0).cloned().ok_or(Errno::ENOENT)
    }

    fn attributes(&self, path: &Path) -> Result<FileAttr, Errno> {
        let found = fs::symlink_metadata(path).map_err(|_| Errno::ENOENT)?;
        let mut paths = self.paths.lock().expect("not poisoned");
        let ino = if paths.get(&INodeNo::ROOT.0).is_some_and(|root| root == path) { 1 } else { found.ino() };
        paths.insert(ino, path.to_owned());
        let time = |seconds: i64, nanos: i64| {
            let seconds = Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
            SystemTime::UNIX_EPOCH
                + seconds
                + Duration::from_nanos(u64::try_from(nanos).expect("nanoseconds"))
        };
        let changed = time(found.mtime(), found.mtime_nsec());
        Ok(FileAttr {
            ino: INodeNo(ino),
            size: found.len(),
            blocks: found.blocks(),
            atime: changed,
            mtime: changed,
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: changed,
            kind: kind(found.file_type()),
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn kind(kind: fs::FileType) -> FileType {
    match (kind.is_dir(), kind.is_symlink()) {
        (true, _) => FileType::Directory,
        (false, true) => FileType::Symlink,
        (false, false) => FileType::RegularFile,
    }
}

impl Filesystem for Answers {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.path(parent).and_then(|parent| self.attributes(&parent.join(name))) {
            Ok(found) => reply.entry(&NEVER, &found, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(ino).and_then(|path| self.attributes(&path)) {
            Ok(found) => reply.attr(&NEVER, &found),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = self.path(ino).and_then(|path| fs::read_dir(path).map_err(|_| Errno::ENOENT));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for (place, path) in entries.iter().enumerate().skip(usize::try_from(offset).expect("few")) {
            let Ok(found) = self.attributes(path) else { continue };
            if reply.add(found.ino, place as u64 + 1, found.kind, path.file_name().expect("a name")) {
                break;
            }
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self.path(ino).and_then(|path| fs::File::open(path).map_err(|_| Errno::ENOENT));
        let Ok(file) = file else { return reply.error(Errno::ENOENT) };
        let mut bytes = vec![0; size as usize];
        match file.read_at(&mut bytes, offset) {
            Ok(count) => reply.data(&bytes[..count]),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}

#[tokio::test]
async fn the_other_side_is_seen_and_makes_no_events() {
    if !super::has_own_mounts("far::the_other_side_is_seen_and_makes_no_events") {
        return;
    }
    let point = tempfile::tempdir().expect("a folder");
    let far = Far::mount(point.path());
    far.write("in/a.csv", "text");
    let mut text = String::new();
    let mut file = fs::File::open(point.path().join("in/a.csv")).expect("opened");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "text");
    let events = init(CreateFlags::NONBLOCK).expect("inotify");
    let asked = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
    add_watch(&events, point.path().join("in"), asked | WatchFlags::DELETE).expect("watched");
    far.write("in/b.csv", "text");
    fs::remove_file(far.path("in/a.csv")).expect("removed");
    let mut names: Vec<_> = fs::read_dir(point.path().join("in"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["b.csv"]);
    let none = rustix::io::read(&events, &mut [0_u8; 4096]);
    assert_eq!(none, Err(rustix::io::Errno::AGAIN), "no event tells of it");
}

/// Its locks may not be locks.
#[tokio::test]
async fn the_state_file_is_refused_there() {
    if !super::has_own_mounts("far::the_state_file_is_refused_there") {
        return;
    }
    let point = tempfile::tempdir().expect("a folder");
    let _far = Far::mount(point.path());
    let agent = hetuflow_core::id::AgentId::new("agent-1").expect("a name");
    let options = hetuflow_watch::Options::new(point.path().join("watch.db"), point.path(), agent);
    let refused = hetuflow_watch::start(options, tokio_util::sync::CancellationToken::new()).await;
    let refused = refused.expect_err("it cannot keep its word there");
    assert!(matches!(refused, hetuflow_watch::WatchError::Remote { .. }), "{refused:?}");
    assert!(refused.to_string().contains("put the data directory on a local disk"), "{refused}");
}
