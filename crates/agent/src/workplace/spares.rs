//! Directories that attempts have left as they found them, for attempts to come. Making and removing the same few files
//! for every run is dear: ext4 gives no number of a removed file out again for five seconds, and looks at all of
//! these for each new one.

use std::{
    fs::{self, DirEntry, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::Workplace;

/// What begins the name of one; the names of attempts do not.
const NAME: &str = "spare-";

/// More than these are removed.
const MOST: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Spares(Arc<Mutex<Stock>>);

#[derive(Debug, Default)]
struct Stock {
    dirs: Vec<PathBuf>,
    made: u64,
}

impl Spares {
    /// Removes what an earlier life of the agent has left: nobody knows in which state.
    pub(super) fn open(base: &Path) -> Self {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME)) {
                super::remove(&entry.path());
            }
        }
        Self::default()
    }

    /// Makes one the place of an attempt, and puts the body there.
    pub(super) fn take(&self, place: &Workplace, body: &[u8]) -> Option<()> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).dirs.pop()?;
        let taken = fs::rename(&spare, &place.dir).and_then(|()| overwrite(&place.event_file(), body));
        if taken.is_err() {
            super::remove(&spare);
            super::remove(&place.dir);
        }
        taken.ok()
    }

    /// Keeps a place for later, if it is as it was made; else it is removed.
    pub(super) fn give(&self, place: &Workplace) {
        if !clean(place).unwrap_or_default() {
            return super::remove(&place.dir);
        }
        let name = {
            let mut stock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            stock.made += 1;
            (stock.dirs.len() < MOST).then(|| format!("{NAME}{}", stock.made))
        };
        match name.map(|name| place.dir.with_file_name(name)) {
            Some(spare) if fs::rename(&place.dir, &spare).is_ok() => {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).dirs.push(spare);
            }
            Some(_) | None => super::remove(&place.dir),
        }
    }
}

/// Empties what the attempt may write to, and tells whether nothing else is left of it.
fn clean(place: &Workplace) -> io::Result<bool> {
    let _ = fs::remove_file(place.stdin_file());
    for dir in [&place.dir, &place.working_dir()] {
        let meta = fs::symlink_metadata(dir)?;
        if !meta.is_dir() || meta.mode() & 0o7777 != super::DIR_MODE || !is_own(&meta) {
            return Ok(false);
        }
    }
    for file in [place.event_file(), place.output_file()] {
        let meta = fs::symlink_metadata(file)?;
        // A second name, and the next attempt would write into what this one has kept.
        if !meta.is_file() || meta.mode() & 0o7777 != super::FILE_MODE || meta.nlink() != 1 || !is_own(&meta)
        {
            return Ok(false);
        }
    }
    let known = |entry: &DirEntry| {
        ["work", "event", "output"].iter().any(|name| entry.file_name().as_encoded_bytes() == name.as_bytes())
    };
    for entry in fs::read_dir(&place.dir)? {
        if !known(&entry?) {
            return Ok(false);
        }
    }
    if fs::read_dir(place.working_dir())?.next().is_some() {
        return Ok(false);
    }
    let output = open(&place.output_file())?;
    if output.metadata()?.len() > 0 {
        output.set_len(0)?;
    }
    Ok(true)
}

/// A place that was another user's would be his for ever.
fn is_own(meta: &fs::Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw()
}

/// Not cut to nothing first: ext4 takes that for the replacing of a file, and writes it to the disk at once.
fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use hetuflow_core::id::InstanceId;

    use super::super::Workplaces;
    use super::*;

    /// What one attempt does to its place, and whether the next one gets the same.
    #[track_caller]
    fn check(what: &str, leaves: fn(&Workplace), reused: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Workplaces::open(dir.path().join("work"), Duration::ZERO).expect("opened");
        let id = || InstanceId::at(hetuflow_core::Clock::system().now());
        let (first, second) = (id(), id());
        let names = || -> Vec<String> {
            let entries = fs::read_dir(&places.base).expect("listed").flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        places.of(first).prepare(b"the first, which is longer", Some("input"), None).expect("prepared");
        leaves(&places.of(first));
        places.leave(first);
        let expected = if reused { vec!["spare-1".to_owned()] } else { Vec::new() };
        assert_eq!(names(), expected, "{what}: what is left");
        let next = places.of(second);
        next.prepare(b"the second", None, None).expect("prepared");
        assert_eq!(names(), [second.to_string()], "{what}: nothing else is there");
        assert_eq!(fs::read(next.event_file()).expect("read"), b"the second", "{what}");
        assert_eq!(fs::read(next.output_file()).expect("read"), b"", "{what}");
        assert!(!next.stdin_file().exists(), "{what}");
        assert_eq!(fs::read_dir(next.working_dir()).expect("listed").count(), 0, "{what}");
    }

    #[test]
    fn a_place_is_used_again_when_it_is_as_it_was() {
        check("nothing", |_| {}, true);
        check("said something", |place| fs::write(place.output_file(), "a=1").expect("written"), true);
    }

    #[test]
    fn what_an_attempt_has_changed_no_other_gets() {
        check("a file", |place| fs::write(place.working_dir().join("x"), "").expect("written"), false);
        check("a file beside", |place| fs::write(place.dir.join(".x"), "").expect("written"), false);
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
                let root = place.dir.parent().and_then(Path::parent).expect("a root");
                fs::hard_link(place.event_file(), root.join("kept")).expect("linked");
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
