//! Directories that attempts have left as they found them, for attempts to come. Making and removing the same few files
//! for every run is dear: ext4 gives no number of a removed file out again for five seconds, and looks at all of
//! these for each new one. What is in one stays open, so that looking at it costs no search through the file system.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use hetuflow_core::id::InstanceId;
use rustix::fs::{AtFlags, CWD, FileType, RawDir, Stat, fstat, seek, statat, unlinkat};

use super::{DIR_MODE, EVENT, FILE_MODE, MANIFEST, MANIFEST0, OUTPUT, STDIN, WORK};

/// What begins the name of one; the names of attempts do not.
const NAME: &str = "spare-";

/// More idle ones than these are removed.
const MOST: usize = 32;

#[derive(Debug, Clone)]
pub(super) struct Spares(Arc<Mutex<Stock>>);

#[derive(Debug)]
struct Stock {
    /// In the names of this life's places: nobody who was left by an earlier one knows where they are.
    life: u64,
    made: u64,
    idle: Vec<Arc<Place>>,
    used: HashMap<InstanceId, Arc<Place>>,
}

/// A directory for an attempt at a time.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Once an attempt has left it as it was.
    furniture: OnceLock<Furniture>,
}

/// What every place has, as it was made.
#[derive(Debug)]
struct Furniture {
    dir: OwnedFd,
    work: OwnedFd,
    event: File,
    output: File,
}

impl Spares {
    /// Removes what an earlier life of the agent has left: nobody knows in which state.
    pub(super) fn open(base: &Path) -> Self {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME)) {
                super::remove(&entry.path());
            }
        }
        let stock = Stock { life: rand::random(), made: 0, idle: Vec::new(), used: HashMap::new() };
        Self(Arc::new(Mutex::new(stock)))
    }

    /// The place of an attempt: one that has served before, or one that is yet to be made.
    pub(super) fn take(&self, base: &Path, instance_id: InstanceId) -> Arc<Place> {
        let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = stock.idle.pop().unwrap_or_else(|| {
            stock.made += 1;
            Arc::new(Place::new(base.join(format!("{NAME}{:016x}-{}", stock.life, stock.made))))
        });
        stock.used.insert(instance_id, Arc::clone(&place));
        place
    }

    pub(super) fn abandon(&self, instance_id: InstanceId) -> Option<Arc<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&instance_id)
    }

    /// Keeps a place for later, if it is as it was made; else it is to be removed.
    pub(super) fn give(&self, instance_id: InstanceId) -> Option<Arc<Place>> {
        let place = self.abandon(instance_id)?;
        let is_clean = place.clean().unwrap_or_default();
        let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_clean && stock.idle.len() < MOST {
            stock.idle.push(place);
            return None;
        }
        Some(place)
    }
}

impl Place {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, furniture: OnceLock::new() }
    }

    /// Puts the body into one that has served before; `false` for a new one.
    pub(super) fn furnish_again(&self, body: &[u8]) -> io::Result<bool> {
        let Some(Furniture { event, .. }) = self.furniture.get() else { return Ok(false) };
        // Not cut to nothing first: ext4 takes that for the replacing of a file, and writes it to the disk at once.
        event.write_all_at(body, 0)?;
        if fstat(event)?.st_size.unsigned_abs() > body.len() as u64 {
            event.set_len(body.len() as u64)?;
        }
        Ok(true)
    }

    /// Empties what the attempt may write to, and tells whether nothing else is left of it.
    fn clean(&self) -> io::Result<bool> {
        let furniture = match self.furniture.get() {
            Some(furniture) => furniture,
            None => self.furniture.get_or_init({
                let opened = Furniture::open(&self.dir)?;
                || opened
            }),
        };
        for name in [STDIN, MANIFEST, MANIFEST0] {
            let _ = unlinkat(&furniture.dir, name, AtFlags::empty());
        }
        let here = statat(CWD, &self.dir, AtFlags::SYMLINK_NOFOLLOW)?;
        let (dir, work) = (fstat(&furniture.dir)?, fstat(&furniture.work)?);
        let (event, output) = (fstat(&furniture.event)?, fstat(&furniture.output)?);
        let is_as_made = (here.st_dev, here.st_ino) == (dir.st_dev, dir.st_ino)
            && [&dir, &work].into_iter().all(is_own_dir)
            && [&event, &output].into_iter().all(is_own_file);
        let expected = [(WORK, work.st_ino), (EVENT, event.st_ino), (OUTPUT, output.st_ino)];
        if !is_as_made || !holds_only(&furniture.dir, &expected)? || !holds_only(&furniture.work, &[])? {
            return Ok(false);
        }
        if output.st_size > 0 {
            furniture.output.set_len(0)?;
        }
        Ok(true)
    }
}

impl Furniture {
    fn open(dir: &Path) -> io::Result<Self> {
        let directory = |path: &Path| open(path, libc::O_DIRECTORY).map(OwnedFd::from);
        let file = |name: &str| open(&dir.join(name), libc::O_NONBLOCK);
        Ok(Self {
            dir: directory(dir)?,
            work: directory(&dir.join(WORK))?,
            event: file(EVENT)?,
            output: file(OUTPUT)?,
        })
    }
}

/// A place that was another user's would be his for ever.
fn is_own(meta: &Stat, kind: FileType, mode: u32) -> bool {
    FileType::from_raw_mode(meta.st_mode) == kind
        && meta.st_mode & 0o7777 == mode
        && meta.st_uid == rustix::process::geteuid().as_raw()
}

fn is_own_dir(meta: &Stat) -> bool {
    is_own(meta, FileType::Directory, DIR_MODE)
}

/// With a second name, the next attempt would write into what this one has kept.
fn is_own_file(meta: &Stat) -> bool {
    is_own(meta, FileType::RegularFile, FILE_MODE) && meta.st_nlink == 1
}

/// Whether these and no others are in it, and still the same.
fn holds_only(dir: &OwnedFd, expected: &[(&str, u64)]) -> io::Result<bool> {
    seek(dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let (mut entries, mut found) = (RawDir::new(dir.as_fd(), &mut buffer), 0);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if !expected.iter().any(|(known, number)| name == known.as_bytes() && entry.ino() == *number) {
            return Ok(false);
        }
        found += 1;
    }
    Ok(found == expected.len())
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    let write = flags & libc::O_DIRECTORY == 0;
    OpenOptions::new().read(!write).write(write).custom_flags(flags | libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use hetuflow_core::id::InstanceId;

    use super::super::{Workplace, Workplaces};
    use super::*;

    /// What one attempt does to its place, and whether the next one gets the same.
    #[track_caller]
    fn check(what: &str, leaves: fn(&Workplace), reused: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Workplaces::open(dir.path().join("work"), Duration::ZERO).expect("opened");
        let id = || InstanceId::at(hetuflow_core::Clock::system().now());
        // Twice: what has served before is judged as what is new.
        for round in ["first", "second"] {
            let what = format!("{what}, {round} time");
            let (before, after) = (id(), id());
            let place = places.of(before);
            place.prepare(b"the first, which is longer", Some("input"), None, None).expect("prepared");
            if round == "second" || !reused {
                leaves(&place);
            }
            let leaving = places.leave(before);
            assert_eq!(leaving.is_none(), reused, "{what}");
            leaving.into_iter().for_each(super::super::Leaving::remove);
            assert_eq!(place.0.dir.exists(), reused, "{what}: what is left");
            let next = places.of(after);
            assert_eq!(next.0.dir == place.0.dir, reused, "{what}");
            next.prepare(b"the second", None, None, None).expect("prepared");
            assert_eq!(fs::read(next.event_file()).expect("read"), b"the second", "{what}");
            assert_eq!(fs::read(next.output_file()).expect("read"), b"", "{what}");
            assert!(!next.stdin_file().exists(), "{what}");
            assert_eq!(fs::read_dir(next.working_dir()).expect("listed").count(), 0, "{what}");
            assert!(places.leave(after).is_none(), "{what}: nothing was done to it");
        }
    }

    #[test]
    fn a_place_is_used_again_when_it_is_as_it_was() {
        check("nothing", |_| {}, true);
        check("said something", |place| fs::write(place.output_file(), "a=1").expect("written"), true);
    }

    /// It looks like the one that was there, and is not the one that the next attempt's body would be written into.
    #[test]
    fn another_file_of_the_same_name_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Workplaces::open(dir.path().join("work"), Duration::ZERO).expect("opened");
        for is_kept in [true, false] {
            let id = InstanceId::at(hetuflow_core::Clock::system().now());
            let place = places.of(id);
            place.prepare(b"body", None, None, None).expect("prepared");
            if !is_kept {
                let event = place.event_file();
                fs::copy(&event, place.0.dir.join("new")).expect("copied");
                fs::rename(&event, dir.path().join("kept")).expect("moved");
                fs::rename(place.0.dir.join("new"), &event).expect("moved");
            }
            assert_eq!(places.leave(id).is_none(), is_kept);
        }
    }

    #[test]
    fn what_an_attempt_has_changed_no_other_gets() {
        check("a file", |place| fs::write(place.working_dir().join("x"), "").expect("written"), false);
        check("a file beside", |place| fs::write(place.0.dir.join(".x"), "").expect("written"), false);
        check("no output", |place| fs::remove_file(place.output_file()).expect("removed"), false);
        check(
            "a closed directory",
            |place| {
                fs::set_permissions(place.working_dir(), fs::Permissions::from_mode(0o500)).expect("changed");
            },
            false,
        );
        check(
            "a second name",
            |place| {
                fs::hard_link(place.event_file(), place.0.dir.with_extension("kept")).expect("linked");
            },
            false,
        );
        check(
            "a link",
            |place| {
                fs::remove_file(place.output_file()).expect("removed");
                std::os::unix::fs::symlink("/dev/null", place.output_file()).expect("linked");
            },
            false,
        );
    }
}
