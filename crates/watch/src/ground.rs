//! Looks at what is below the start of a glob, and never at anything else: no link is followed on the way, so that nobody who
//! may write there can lead us out of it between two looks. A link at the end of a path is gone through where the trigger says
//! so, by the kernel and never out of the start. Every look, listing, writer test and proof of a file goes
//! through here.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use hetuflow_core::trigger::Symlinks;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use crate::{
    links,
    probe::{FileFact, Seen, Way, see_in, see_link, see_open},
};

/// Where a glob starts: under the name that it has there, and without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ground {
    dir: PathBuf,
    real: PathBuf,
    /// Which links are gone through, never out of it.
    links: Symlinks,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Ground {
    pub(crate) fn new(dir: &Path, real: &Path) -> Self {
        Self { dir: dir.to_owned(), real: real.to_owned(), links: Symlinks::Ignore }
    }

    pub(crate) fn following(self, links: Symlinks) -> Self {
        Self { links, ..self }
    }

    /// Follows links on the way to `dir` itself: whoever wrote the glob named them.
    pub(crate) fn locate(dir: &Path) -> io::Result<Self> {
        Ok(Self::new(dir, &std::fs::canonicalize(dir)?))
    }

    pub(crate) const fn symlinks(&self) -> Symlinks {
        self.links
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn real(&self) -> &Path {
        &self.real
    }

    /// What is at a path below.
    pub(crate) fn see(&self, path: &Path) -> Seen {
        let seen = if path == self.dir {
            self.directory(path).map(|directory| see_open(&directory))
        } else {
            self.spot(path).map(|spot| self.see_at(path, &spot))
        };
        seen.unwrap_or_else(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Seen::Absent,
            errno => Seen::Unknown(errno),
        })
    }

    /// The same, with its directory held open.
    pub(crate) fn see_at(&self, path: &Path, spot: &Spot<'_>) -> Seen {
        let seen = spot.see();
        let may_lead = seen == Seen::Other && self.links != Symlinks::Ignore;
        if may_lead { self.see_through(path, spot) } else { seen }
    }

    /// What a link leads to.
    fn see_through(&self, path: &Path, spot: &Spot<'_>) -> Seen {
        let Some(link) = see_link(&spot.directory, spot.name) else { return Seen::Other };
        match self.behind(path, OFlags::PATH) {
            Ok(open) => match see_open(&open) {
                Seen::File(fact) => {
                    Seen::File(FileFact { way: Way::Link, changed: fact.changed.max(link.changed), ..fact })
                }
                Seen::Directory(fact) if self.links == Symlinks::Follow => Seen::Directory(fact),
                seen @ Seen::Unknown(_) => seen,
                Seen::Directory(_) | Seen::Other | Seen::Absent => Seen::Other,
            },
            Err(Errno::XDEV) => Seen::File(link),
            // Nothing is there, or a circle of links.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Seen::Other,
            Err(errno) => Seen::Unknown(errno),
        }
    }

    /// Opens what a link leads to, whatever that is.
    pub(crate) fn behind(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let below = path.strip_prefix(&self.dir).map_err(|_| Errno::INVAL)?;
        links::resolve(open_directory(&self.real)?, below, flags)
    }

    /// The path without links of what a link leads to.
    pub(crate) fn path_behind(&self, path: &Path) -> rustix::io::Result<PathBuf> {
        self.in_glob(&links::path_of(&self.behind(path, OFlags::PATH)?)?).ok_or(Errno::XDEV)
    }

    /// The same of a directory; `None`: it leads to something else.
    pub(crate) fn directory_behind(&self, path: &Path) -> rustix::io::Result<Option<PathBuf>> {
        match self.behind(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(open) => Ok(self.in_glob(&links::path_of(&open)?)),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn in_glob(&self, real: &Path) -> Option<PathBuf> {
        let below = real.strip_prefix(&self.real).ok()?;
        Some(if below.as_os_str().is_empty() { self.dir.clone() } else { self.dir.join(below) })
    }

    pub(crate) fn is_link(&self, path: &Path) -> bool {
        self.spot(path).is_ok_and(|spot| see_link(&spot.directory, spot.name).is_some())
    }

    /// Whether there is anything of this name.
    pub(crate) fn is_there(&self, path: &Path) -> bool {
        self.see(path) != Seen::Absent
    }

    /// A directory: to be asked about, and for what is in it.
    pub(crate) fn directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        open_directory(&self.below(path)?)
    }

    /// A directory itself, to be written to the disk.
    pub(crate) fn open_directory(&self, path: &Path) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(self.directory(path)?, ".", flags, Mode::empty())?.into())
    }

    /// A file, to be read.
    pub(crate) fn open(&self, path: &Path) -> rustix::io::Result<File> {
        self.open_at(path, &self.spot(path)?)
    }

    /// The same, with its directory held open.
    pub(crate) fn open_at(&self, path: &Path, spot: &Spot<'_>) -> rustix::io::Result<File> {
        match spot.open() {
            Err(Errno::LOOP) if self.links != Symlinks::Ignore => {
                Ok(self.behind(path, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
            }
            opened => opened,
        }
    }

    /// A path whose directory is held open: what is seen there is of the same directory each time.
    pub(crate) fn spot<'p>(&self, path: &'p Path) -> rustix::io::Result<Spot<'p>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
        Ok(Spot { directory: open_directory(&self.below(parent)?)?, name })
    }

    fn below(&self, path: &Path) -> rustix::io::Result<PathBuf> {
        let below = path.strip_prefix(&self.dir).map_err(|_| Errno::INVAL)?;
        if below.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Errno::INVAL);
        }
        Ok(if below.as_os_str().is_empty() { self.real.clone() } else { self.real.join(below) })
    }
}

/// A name in an open directory.
#[derive(Debug)]
pub(crate) struct Spot<'p> {
    pub(crate) directory: OwnedFd,
    name: &'p OsStr,
}

impl Spot<'_> {
    pub(crate) fn see(&self) -> Seen {
        see_in(&self.directory, self.name)
    }

    pub(crate) fn open(&self) -> rustix::io::Result<File> {
        open_in(&self.directory, self.name)
    }
}

/// NONBLOCK, so that a pipe that took the place of a file does not hang us.
pub(crate) fn open_in(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}

/// The whole way must be without links, from the top.
fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(CWD, path, DIRECTORY, Mode::empty(), resolve) {
        // Old kernels, and sandboxes that do not know it.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(path),
        opened => opened,
    }
}

/// The same, a step at a time.
fn open_stepwise(path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut directory = openat(CWD, "/", DIRECTORY, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(part) => {
                directory = step(&directory, part)?;
            }
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        }
    }
    Ok(directory)
}

fn step(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    match openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        // The kernel says the same of a link and of a file.
        Err(Errno::NOTDIR) if see_in(directory, name) == Seen::Other => Err(Errno::LOOP),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_is_gone_through_as_far_as_the_start_reaches() {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(home.path().join("in/sub")).expect("made");
        fs::write(home.path().join("in/sub/a"), "12").expect("written");
        fs::write(home.path().join("secret"), "123").expect("written");
        let dir = home.path().join("in");
        let absolute = dir.join("sub/a").display().to_string();
        for (name, text) in [
            ("file", "sub/a"),
            ("again", "folder/a"),
            ("folder", "sub"),
            ("out", "../secret"),
            ("and-back", "../in/sub/a"),
            ("absolute", &absolute),
            ("nothing", "none"),
            ("circle", "circle"),
        ] {
            symlink(text, dir.join(name)).expect("linked");
        }
        let check = |links: Symlinks, name: &str, expected: &str| {
            let ground = Ground::locate(&dir).expect("there").following(links);
            let seen = match ground.see(&dir.join(name)) {
                Seen::File(fact) => format!("{:?} {}", fact.way, fact.version.size),
                Seen::Directory(_) => "directory".to_owned(),
                Seen::Other => "other".to_owned(),
                seen @ (Seen::Absent | Seen::Unknown(_)) => format!("{seen:?}"),
            };
            assert_eq!(seen, expected, "{links:?} {name}");
            let reads = ground.open(&dir.join(name)).map(|file| std::io::read_to_string(file).is_ok());
            assert_eq!(reads == Ok(true), expected.starts_with("Link"), "{links:?} {name}");
        };
        for name in ["file", "again", "folder", "out", "absolute", "nothing", "circle"] {
            check(Symlinks::Ignore, name, "other");
        }
        for links in [Symlinks::File, Symlinks::Follow] {
            check(links, "file", "Link 2");
            check(links, "again", "Link 2");
            check(links, "out", "Out 9");
            check(links, "and-back", "Out 11");
            check(links, "absolute", &format!("Out {}", absolute.len()));
            check(links, "nothing", "other");
            check(links, "circle", "other");
        }
        check(Symlinks::File, "folder", "other");
        let ground = Ground::locate(&dir).expect("there").following(Symlinks::Follow);
        assert!(matches!(ground.see(&dir.join("folder")), Seen::Directory(_)));
        assert_eq!(ground.directory_behind(&dir.join("folder")), Ok(Some(dir.join("sub"))));
        assert_eq!(ground.path_behind(&dir.join("again")), Ok(dir.join("sub/a")));
        // On the way there is none, whatever is at the end.
        assert_eq!(ground.see(&dir.join("folder/a")), Seen::Unknown(Errno::LOOP));
    }

    #[test]
    fn no_link_is_followed_below_the_start() {
        let (home, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
        fs::create_dir_all(home.path().join("in/sub")).expect("made");
        fs::write(home.path().join("in/sub/a"), "1").expect("written");
        fs::write(outside.path().join("a"), "secret").expect("written");
        symlink(home.path().join("in"), home.path().join("named")).expect("linked");
        symlink(outside.path(), home.path().join("in/out")).expect("linked");
        symlink(outside.path().join("a"), home.path().join("in/file")).expect("linked");
        let dir = home.path().join("named");
        let ground = Ground::locate(&dir).expect("there");
        assert!(matches!(ground.see(&dir), Seen::Directory(_)));
        assert!(matches!(ground.see(&dir.join("sub")), Seen::Directory(_)));
        assert!(matches!(ground.see(&dir.join("sub/a")), Seen::File(fact) if fact.version.size == 1));
        assert_eq!(ground.see(&dir.join("sub/b")), Seen::Absent);
        assert_eq!(ground.see(&dir.join("none/b")), Seen::Absent);
        assert_eq!(ground.see(&dir.join("file")), Seen::Other);
        assert_eq!(ground.see(&dir.join("out")), Seen::Other);
        assert_eq!(ground.see(&dir.join("out/a")), Seen::Unknown(Errno::LOOP));
        ground.open(&dir.join("out/a")).expect_err("a link on the way");
        ground.open(&dir.join("file")).expect_err("a link");
        ground.directory(&dir.join("out")).expect_err("a link");
        ground.directory(&dir.join("../named")).expect_err("it leaves");
        assert_eq!(ground.see(outside.path()), Seen::Unknown(Errno::INVAL));
        ground.directory(&dir.join("sub")).expect("no link");
        let stepwise = |name: &str| open_stepwise(&ground.real().join(name));
        stepwise("sub").expect("no link");
        assert_eq!(stepwise("out").expect_err("a link"), Errno::LOOP);
        assert_eq!(stepwise("none").expect_err("nothing"), Errno::NOENT);
        assert_eq!(stepwise("sub/a").expect_err("a file"), Errno::NOTDIR);
    }
}
