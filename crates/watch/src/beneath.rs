//! Moves and removes files below one directory and never outside of it: every step of a path is opened from the one above
//! without following links, so that nobody can put a link in its way.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use hetuflow_core::trigger::{Collision, Symlinks};
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, mkdirat, openat, readlinkat, renameat,
        renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{
    claim, links,
    probe::{FileFact, Seen, see_in, see_link, see_open},
    version::Version,
};

pub(crate) struct Beneath {
    start: OwnedFd,
    links: Symlinks,
}

/// Names that are tried for a file whose name is taken.
const MAX_NAMES: u32 = 1000;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Beneath {
    /// `root` itself may be reached through links: the agent's operator named it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { start: openat(CWD, root, flags, Mode::empty())?, links: Symlinks::Ignore })
    }

    /// What is at the end of a link counts as its version. Moved and removed is the link.
    pub(crate) fn following(self, links: Symlinks) -> Self {
        Self { links, ..self }
    }

    /// The version of a file or a directory, if there is one.
    pub(crate) fn version(&self, path: &Path) -> io::Result<Option<Version>> {
        let (parent, name) = match self.parent(path, Missing::Refuse) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match see_in(&parent, name) {
            Seen::File(fact) => Ok(Some(fact.version)),
            Seen::Other if self.links != Symlinks::Ignore => Ok(self.version_behind(path, &parent, name)?),
            Seen::Directory(fact) => Ok(Some(FileFact::whole(fact).told())),
            Seen::Other | Seen::Absent => Ok(None),
            Seen::Unknown(errno) => Err(errno.into()),
        }
    }

    fn version_behind(
        &self,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> rustix::io::Result<Option<Version>> {
        let seen = match links::resolve(&self.start, path, OFlags::PATH) {
            Ok(open) => see_open(&open),
            Err(Errno::XDEV) => return Ok(see_link(parent, name).map(|link| link.version)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Seen::Absent,
            Err(errno) => Seen::Unknown(errno),
        };
        match seen {
            Seen::File(fact) => Ok(Some(fact.version)),
            Seen::Directory(_) | Seen::Other | Seen::Absent => Ok(None),
            Seen::Unknown(errno) => Err(errno),
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
        if let Some(text) =
            readlinkat(&source, name, Vec::new()).ok().filter(|_| self.links != Symlinks::Ignore)
        {
            // A link that says where to go from here is another one there.
            let text = retold(from, to, Path::new(OsStr::from_bytes(text.as_bytes())));
            if collision == Collision::Overwrite && see_in(&target, wanted) != Seen::Absent {
                unlinkat(&target, wanted, AtFlags::empty())?;
            }
            let placed = place(to, collision, |chosen| link_free(&text, &target, chosen))?;
            unlinkat(source, name, AtFlags::empty())?;
            return Ok(placed);
        }
        if collision == Collision::Overwrite {
            renameat(&source, name, &target, wanted)?;
            return Ok(to.to_owned());
        }
        place(to, collision, |chosen| rename_free(&source, name, &target, chosen))
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
        let mut directory = openat(&self.start, ".", DIRECTORY, Mode::empty())?;
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

/// Under the first name that is free.
fn place(
    to: &Path,
    collision: Collision,
    put: impl Fn(&OsStr) -> rustix::io::Result<()>,
) -> io::Result<PathBuf> {
    let wanted = Path::new(to.file_name().unwrap_or_default());
    for number in 1..=MAX_NAMES {
        let chosen = numbered(wanted, number);
        match put(chosen.as_os_str()) {
            Ok(()) => return Ok(to.with_file_name(chosen)),
            Err(Errno::EXIST) if collision == Collision::Suffix => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// What a link at `from` says, said at `to`. Both are below the same directory and have no links on the way.
fn retold(from: &Path, to: &Path, text: &Path) -> PathBuf {
    if text.is_absolute() {
        return text.to_owned();
    }
    let parts = |path: &Path| -> Vec<OsString> {
        path.parent().into_iter().flat_map(Path::iter).map(OsStr::to_owned).collect()
    };
    let (mut base, here) = (parts(from), parts(to));
    let mut rest = text.components().peekable();
    // Up from a directory that is none but itself.
    while let Some(Component::CurDir | Component::ParentDir) = rest.peek() {
        if rest.next() == Some(Component::ParentDir) && base.pop().is_none() {
            return text.to_owned();
        }
    }
    let same = base.iter().zip(&here).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n(OsString::from(".."), here.len() - same);
    up.chain(base.drain(same..)).chain(rest.map(|part| part.as_os_str().to_owned())).collect()
}

/// Never takes a name that is taken, unless by the very link: a crash came before the other one went.
fn link_free(text: &Path, target: &OwnedFd, wanted: &OsStr) -> rustix::io::Result<()> {
    match symlinkat(text, target, wanted) {
        Err(Errno::EXIST)
            if readlinkat(target, wanted, Vec::new())
                .is_ok_and(|there| there.as_bytes() == text.as_os_str().as_bytes()) =>
        {
            Ok(())
        }
        linked => linked,
    }
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
    fn a_link_that_is_moved_leads_to_the_same_file() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["sub/deep", "store", "done/2026"] {
            fs::create_dir_all(dir.path().join(name)).expect("made");
        }
        for name in ["store/a", "sub/a"] {
            fs::write(dir.path().join(name), name).expect("written");
        }
        let below = Beneath::open(dir.path()).expect("opened").following(Symlinks::File);
        let check = |from: &str, text: &str, to: &str, expected: &str| {
            symlink(text, dir.path().join(from)).expect("linked");
            let version = below.version(Path::new(from)).expect("seen").expect("a file");
            let placed = below.rename(Path::new(from), Path::new(to), Collision::Suffix).expect("moved");
            assert_eq!(
                fs::read_link(dir.path().join(&placed)).expect("a link"),
                Path::new(expected),
                "{text}"
            );
            assert_eq!(below.version(&placed).expect("seen"), Some(version), "{text}");
            assert!(fs::symlink_metadata(dir.path().join(from)).is_err(), "{from} is still there");
            placed
        };
        check("l", "store/a", "done/2026/l", "../../store/a");
        check("sub/l", "../store/a", "done/l", "../store/a");
        check("sub/m", "a", "sub/deep/m", "../a");
        check("sub/deep/n", "./../a", "n", "sub/a");
        check("sub/o", "../sub/a", "sub/p", "../sub/a");
        assert_eq!(check("sub/l", "../store/a", "n", "store/a"), Path::new("n-2"));
        // The other one went away, or it did not: a crash came between.
        symlink("store/a", dir.path().join("q")).expect("linked");
        symlink("../store/a", dir.path().join("done/q")).expect("linked");
        let placed = below.rename(Path::new("q"), Path::new("done/q"), Collision::Suffix).expect("moved");
        assert_eq!(placed, Path::new("done/q"));
        assert!(dir.path().join("store/a").exists() && dir.path().join("sub/a").exists());
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
