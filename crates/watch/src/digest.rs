//! Digests of files, apart from the turns: a large file is read for minutes, and nobody else shall wait for it. One thread
//! reads one file at a time and ends when there are no more. Asked by `live`; the engine hands on what was found.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::{
    ground::Ground,
    probe::{Seen, see_open},
    version::Version,
};

/// A smaller file is read in the turn itself, which costs less than another turn; so much in one turn, at most.
const SMALL: u64 = 1 << 20;
const SMALL_IN_TURN: u64 = 16 << 20;

/// Files that wait for the thread, at most; who does not fit asks again.
const MAX_ASKED: usize = 65_536;

const CHUNK: usize = 1 << 20;

/// Chunks between two looks whether the file is still the one that was asked about.
const LOOK_EVERY: u64 = 64;

#[derive(Debug, Default)]
pub(crate) struct Digests {
    shared: Arc<Shared>,
    /// Bytes that this turn may still read itself.
    left: u64,
}

/// What is known at once.
#[derive(Debug)]
pub(crate) enum Answer {
    Known(io::Result<String>),
    Later,
    /// Too many wait.
    Full,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    pub(crate) hashed: Hashed,
}

#[derive(Debug)]
pub(crate) enum Hashed {
    Digest(String),
    /// It became another version, or went.
    Changed,
    Failed(String),
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    stop: AtomicBool,
    finished: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Work {
    queue: VecDeque<PathBuf>,
    /// The version that is asked about, of the queue and of the file that is being read.
    asked: HashMap<PathBuf, Asked>,
    found: Vec<Found>,
    has_thread: bool,
}

/// The version of a file that is asked about, and where it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    version: Version,
    ground: Arc<Ground>,
}

impl Digests {
    /// Told when there is something in [`Digests::found`].
    pub(crate) fn finished(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.finished)
    }

    /// At the start of a turn: what was found since the last one.
    pub(crate) fn found(&mut self) -> Vec<Found> {
        self.left = SMALL_IN_TURN;
        std::mem::take(&mut self.shared.work().found)
    }

    pub(crate) fn ask(&mut self, ground: &Arc<Ground>, path: &Path, version: Version) -> Answer {
        if version.size <= SMALL.min(self.left) {
            self.left -= version.size;
            return Answer::Known(digest(ground, path, Some(version)));
        }
        let mut work = self.shared.work();
        if work.asked.len() >= MAX_ASKED && !work.asked.contains_key(path) {
            return Answer::Full;
        }
        let asked = Asked { version, ground: Arc::clone(ground) };
        if work.asked.insert(path.to_owned(), asked).is_none() {
            work.queue.push_back(path.to_owned());
        }
        if !work.has_thread {
            let shared = Arc::clone(&self.shared);
            match thread::Builder::new().name("digests".to_owned()).spawn(move || shared.run()) {
                Ok(_) => work.has_thread = true,
                Err(error) => return Answer::Known(Err(error)),
            }
        }
        Answer::Later
    }
}

impl Drop for Digests {
    /// Nobody waits for the thread: it ends at its next chunk, and another life begins anew.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Nothing in here is half done when a thread dies.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some((path, asked)) = self.next() {
            let version = asked.version;
            let hashed = match self.read(&path, &asked) {
                Ok(Some(digest)) => Hashed::Digest(digest),
                Ok(None) => Hashed::Changed,
                Err(error) => Hashed::Failed(error.to_string()),
            };
            self.work().done(Found { path, version, hashed });
            self.finished.notify_one();
        }
    }

    fn next(&self) -> Option<(PathBuf, Asked)> {
        let mut work = self.work();
        let path = if self.stop.load(Ordering::Relaxed) { None } else { work.queue.pop_front() };
        let next = path.and_then(|path| work.asked.get(&path).map(|asked| (path.clone(), asked.clone())));
        work.has_thread = next.is_some();
        next
    }

    /// `None`: it is not the version that was asked about, or nobody wants to know any more.
    fn read(&self, path: &Path, asked: &Asked) -> io::Result<Option<String>> {
        let mut file = asked.ground.open(path)?;
        if !is_version(&file, asked.version) {
            return Ok(None);
        }
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
        for number in 0_u64.. {
            let unwanted = || self.work().asked.get(path) != Some(asked) || !asked.is_still(path);
            if self.stop.load(Ordering::Relaxed) || (number % LOOK_EVERY == 0 && unwanted()) {
                return Ok(None);
            }
            match read_chunk(&mut file, &mut chunk)? {
                0 => break,
                count => hash.update(&chunk[..count]),
            }
        }
        Ok(asked.is_still(path).then(|| hex::encode(hash.finalize())))
    }
}

impl Work {
    fn done(&mut self, found: Found) {
        if self.asked.get(&found.path).is_some_and(|asked| asked.version == found.version) {
            self.asked.remove(&found.path);
        } else {
            // Asked about again meanwhile, as another version.
            self.queue.push_back(found.path.clone());
        }
        self.found.push(found);
    }
}

impl Asked {
    fn is_still(&self, path: &Path) -> bool {
        matches!(self.ground.see(path), Seen::File(fact) if fact.version == self.version)
    }
}

fn read_chunk(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Another one may have taken its name.
fn is_version(file: &File, version: Version) -> bool {
    matches!(see_open(file), Seen::File(fact) if fact.version == version)
}

/// Of a whole file, at once; of that version, if it matters which.
pub(crate) fn digest(ground: &Ground, path: &Path, version: Option<Version>) -> io::Result<String> {
    let (mut file, mut hash, mut chunk) = (ground.open(path)?, Sha256::new(), vec![0; 1 << 16]);
    if version.is_some_and(|version| !is_version(&file, version)) {
        return Err(io::Error::other("it has changed"));
    }
    loop {
        match read_chunk(&mut file, &mut chunk)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}
