//! The directories of attempts: for each a working directory, the body of its event, a file for
//! what it wants to say. Owned by the user that the process runs as, and removed when the result is
//! acknowledged. What the agent itself needs of an attempt (its spooled output) is elsewhere, out
//! of the process's reach.

mod spares;

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hetuflow_core::{
    Clock,
    id::InstanceId,
    outputs::{self, Outputs},
};
use jiff::Timestamp;

use crate::{identity::create_dir, process::Manifest};
use spares::{Place, Spares};

/// What only the attempt's own user can enter, and read.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What is in one.
const WORK: &str = "work";
const EVENT: &str = "event";
const OUTPUT: &str = "output";
const STDIN: &str = "stdin";
const MANIFEST: &str = "manifest";
const MANIFEST0: &str = "manifest0";

#[derive(Debug, thiserror::Error)]
#[error("cannot prepare {}: {source}", .path.display())]
pub(crate) struct WorkplaceError {
    path: PathBuf,
    source: io::Error,
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Workplaces {
    base: PathBuf,
    /// How long one stays after its attempt is over.
    keep: Duration,
    spares: Spares,
}

/// That of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Workplace(Arc<Place>);

impl Workplaces {
    pub(crate) fn open(base: PathBuf, keep: Duration) -> Result<Self, WorkplaceError> {
        create_dir(&base).map_err(|source| WorkplaceError { path: base.clone(), source })?;
        let spares = Spares::open(&base);
        Ok(Self { base, keep, spares })
    }

    /// Where people may look at it afterwards it is named after the attempt; else it may be one that has served before.
    pub(crate) fn of(&self, instance_id: InstanceId) -> Workplace {
        if self.keep.is_zero() {
            Workplace(self.spares.take(&self.base, instance_id))
        } else {
            Workplace(Arc::new(Place::new(self.base.join(instance_id.to_string()))))
        }
    }

    /// The attempt is over and acknowledged. Yields what is to be removed, which may take its time.
    pub(crate) fn leave(&self, instance_id: InstanceId) -> Option<Leaving> {
        self.spares.give(instance_id).map(Leaving)
    }

    /// The attempt is over, and something may yet write there: no other gets it.
    pub(crate) fn abandon(&self, instance_id: InstanceId) -> Option<Leaving> {
        self.spares.abandon(instance_id).map(Leaving)
    }

    /// Removes what has been kept long enough, and what a crash has left. Blocks.
    pub(crate) fn sweep(&self, clock: &Clock, is_held: impl Fn(InstanceId) -> bool) {
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let id: Option<InstanceId> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let changed =
                entry.metadata().ok().and_then(|meta| Timestamp::try_from(meta.modified().ok()?).ok());
            let age = changed.map(|time| clock.now().duration_since(time).unsigned_abs());
            if id.is_some_and(|id| !is_held(id)) && age.is_some_and(|age| age >= self.keep) {
                remove(&entry.path());
            }
        }
    }
}

/// A place that no other attempt gets.
#[derive(Debug)]
pub(crate) struct Leaving(Arc<Place>);

impl Leaving {
    /// Blocks.
    pub(crate) fn remove(self) {
        remove(&self.0.dir);
    }
}

impl Workplace {
    /// Where the process starts, unless its job names a directory.
    pub(crate) fn working_dir(&self) -> PathBuf {
        self.0.dir.join(WORK)
    }

    /// The raw body of the event.
    pub(crate) fn event_file(&self) -> PathBuf {
        self.0.dir.join(EVENT)
    }

    /// Where the process may write `key=value` lines or JSON.
    pub(crate) fn output_file(&self) -> PathBuf {
        self.0.dir.join(OUTPUT)
    }

    /// What the process has written there, which may be anything by now: only a file of one name is read.
    pub(crate) fn outputs(&self) -> Result<Outputs, String> {
        let unread = |error: io::Error| format!("it cannot be read: {error}");
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(self.output_file()).map_err(unread)?;
        let meta = file.metadata().map_err(unread)?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err("it is not the file that was there".to_owned());
        }
        let mut bytes = Vec::new();
        if meta.len() > 0 {
            file.take(outputs::MOST as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
        }
        outputs::read(&bytes)
    }

    pub(crate) fn stdin_file(&self) -> PathBuf {
        self.0.dir.join(STDIN)
    }

    /// The files of a batch: a line of JSON each, and their paths alone with a NUL after each.
    pub(crate) fn manifest_files(&self) -> [PathBuf; 2] {
        [MANIFEST, MANIFEST0].map(|name| self.0.dir.join(name))
    }

    /// Makes everything that the process finds, and hands it to `owner`.
    pub(crate) fn prepare(
        &self,
        body: &[u8],
        stdin: Option<&str>,
        manifest: Option<&Manifest>,
        owner: Option<(u32, u32)>,
    ) -> Result<(), WorkplaceError> {
        let dir = &self.0.dir;
        if !self.0.furnish_again(body).map_err(|source| failed(dir, source))? {
            make(dir)?;
            make(&self.working_dir())?;
            write(&self.event_file(), body)?;
            write(&self.output_file(), b"")?;
        }
        if let Some(text) = stdin {
            write(&self.stdin_file(), text.as_bytes())?;
        }
        let manifests = self.manifest_files();
        if let Some(manifest) = manifest {
            write(&manifests[0], &manifest.lines)?;
            write(&manifests[1], &manifest.names)?;
        }
        let Some((user, group)) = owner else { return Ok(()) };
        for path in manifests.iter().filter(|_| manifest.is_some()) {
            chown(path, Some(user), Some(group)).map_err(|source| failed(path, source))?;
        }
        for path in [dir, &self.working_dir(), &self.output_file(), &self.event_file()] {
            chown(path, Some(user), Some(group)).map_err(|source| failed(path, source))?;
        }
        Ok(())
    }
}

fn make(path: &Path) -> Result<(), WorkplaceError> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(path, error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), WorkplaceError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> WorkplaceError {
    WorkplaceError { path: path.to_owned(), source }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a working directory");
        }
        _ => {}
    }
}
