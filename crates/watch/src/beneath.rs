//! Moves and removes files below one directory and never outside of it: every step of a path is opened from the one above
//! without following links, so that nobody can put a link in its way.

use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use hetuflow_core::trigger::Collision;
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, mkdirat, openat, renameat, renameat_with, unlinkat,
    },
    io::Errno,
};

use crate::{
    claim,
    probe::{Seen, see_in},
    version::Version,
};

pub(crate) struct Beneath(OwnedFd);

/// Names that are tried for a file whose name is taken.
const MAX_NAMES: u32 = 1000;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Beneath {
    /// `root` itself may be reached through links: the agent's operator named it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, root, flags, Mode::empty())?))
    }

    /// The version of a file, if there is one.
    pub(crate) fn version(&self, path: &Path) -> io::Result<Option<Version>> {
        let (parent, name) = match self.parent(path, Missing::Refuse) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match see_in(&parent, name) {
            Seen::File(fact) => Ok(Some(fact.version)),
            Seen::Directory(_) | Seen::Other | Seen::Absent => Ok(None),
            Seen::Unknown(errno) => Err(errno.into()),
        }
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path, Missing::Refuse)?;
        Ok(unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Moves a file to another path below the same directory; makes the directories on the way. Yields where it is now.
    pub(crate) fn rename(&self, from: &Path, to: &Path, collision: Collision) -> io::Result<PathBuf> {
        let (source, name) = self.parent(from, Missing::Refuse)?;
        let (target, wanted) = self.parent(to, Missing::Make)?;
        if collision == Collision::Overwrite {
            renameat(&source, name, &target, wanted)?;
            return Ok(to.to_owned());
        }
        for number in 1..=MAX_NAMES {
            let chosen = numbered(Path::new(wanted), number);
            match rename_free(&source, name, &target, chosen.as_os_str()) {
                Ok(()) => return Ok(to.with_file_name(chosen)),
                Err(Errno::EXIST) if collision == Collision::Suffix => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Takes a file by renaming it to a name that nobody else uses: of many who do so, on whichever machine, one succeeds.
    pub(crate) fn claim(&self, from: &Path, to: &Path, version: Version) -> io::Result<()> {
        let (source, name) = self.parent(from, Missing::Refuse)?;
        let (target, wanted) = self.parent(to, Missing::Make)?;
        let is_there = || matches!(see_in(&target, wanted), Seen::File(fact) if fact.version == version);
        match see_in(&target, wanted) {
            Seen::Absent => match renameat(&source, name, &target, wanted) {
                // Over a network the answer of one that succeeded may have been lost.
                Err(_) if is_there() => Ok(()),
                renamed => Ok(renamed.inspect_err(|_| self.prune(to.parent()))?),
            },
            // The same file has two names: it was linked back.
            Seen::File(_) if is_there() => Ok(unlinkat(source, name, AtFlags::empty())?),
            Seen::File(_) | Seen::Directory(_) | Seen::Other => Err(Errno::EXIST.into()),
            Seen::Unknown(errno) => Err(errno.into()),
        }
    }

    /// Undoes it, if the name is free.
    pub(crate) fn give_back(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, name) = self.parent(from, Missing::Refuse)?;
        let (target, wanted) = self.parent(to, Missing::Make)?;
        rename_free(&source, name, &target, wanted)?;
        self.prune(from.parent());
        Ok(())
    }

    /// Removes a directory of claimed files, and those above it, as long as they are empty.
    pub(crate) fn prune(&self, directory: Option<&Path>) {
        let above = directory.into_iter().flat_map(Path::ancestors);
        for path in
            above.take_while(|path| path.parent().is_some_and(|parent| parent.starts_with(claim::FOLDER)))
        {
            let removed = self
                .parent(path, Missing::Refuse)
                .and_then(|(parent, name)| unlinkat(parent, name, AtFlags::REMOVEDIR));
            if removed.is_err() {
                return;
            }
        }
    }

    fn parent<'p>(&self, path: &'p Path, missing: Missing) -> rustix::io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let mut directory = openat(&self.0, ".", DIRECTORY, Mode::empty())?;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else { return Err(Errno::INVAL) };
            if missing == Missing::Make {
                match mkdirat(&directory, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            directory = openat(&directory, part, DIRECTORY, Mode::empty())?;
        }
        Ok((directory, name))
    }
}

/// What becomes of a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Make,
}

/// Never takes a name that is taken.
fn rename_free(source: &OwnedFd, name: &OsStr, target: &OwnedFd, wanted: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(source, name, target, wanted, RenameFlags::NOREPLACE) {
        // NFS and others do not know it; a second link and the loss of the first are as good.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(source, name, target, wanted, AtFlags::empty())?;
            unlinkat(source, name, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// `a.csv`, `a-2.csv`, `a-3.csv`.
fn numbered(name: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return name.to_owned();
    }
    let mut text = name.file_stem().unwrap_or_default().to_owned();
    text.push(format!("-{number}"));
    if let Some(extension) = name.extension() {
        text.push(".");
        text.push(extension);
    }
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn names_that_are_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let below = Beneath::open(dir.path()).expect("opened");
        let rename = |collision| {
            fs::write(dir.path().join("a.csv"), "new").expect("written");
            below.rename(Path::new("a.csv"), Path::new("old/x/a.csv"), collision)
        };
        assert_eq!(rename(Collision::Suffix).expect("moved"), Path::new("old/x/a.csv"));
        assert_eq!(rename(Collision::Suffix).expect("moved"), Path::new("old/x/a-2.csv"));
        assert_eq!(rename(Collision::Overwrite).expect("moved"), Path::new("old/x/a.csv"));
        rename(Collision::Keep).expect_err("it stays");
        assert!(below.version(Path::new("a.csv")).expect("seen").is_some());
        below.remove(Path::new("a.csv")).expect("removed");
        assert_eq!(below.version(Path::new("a.csv")).expect("seen"), None);
        assert_eq!(below.version(Path::new("none/a.csv")).expect("seen"), None);
    }

    #[test]
    fn no_link_leads_outside() {
        let (dir, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
        fs::write(outside.path().join("secret"), "1").expect("written");
        fs::write(dir.path().join("a"), "1").expect("written");
        symlink(outside.path(), dir.path().join("link")).expect("linked");
        let below = Beneath::open(dir.path()).expect("opened");
        below.remove(Path::new("link/secret")).expect_err("a link on the way");
        below.rename(Path::new("a"), Path::new("link/a"), Collision::Suffix).expect_err("a link on the way");
        below.rename(Path::new("a"), Path::new("../a"), Collision::Suffix).expect_err("it leaves");
        below.version(Path::new("link/secret")).expect_err("a link on the way");
        assert!(outside.path().join("secret").exists() && dir.path().join("a").exists());
    }
}
