//! Symbolic links below the start of a glob. Where one leads is asked of the kernel in a single question that never leaves
//! the start (`openat2` with `RESOLVE_BENEATH`); without that answer no link is gone through. [`Links`] keeps which
//! directories and files are reached through which links. A directory has one path, the one without links, however many links
//! lead to it, so that every file in it is told once; its other names only say whether globs cover it. Asked by `ground`,
//! `beneath`, the walk and the explanation of a trigger.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2, readlink},
    io::Errno,
};

use crate::{ground::Ground, rule::Rule};

/// What the kernel takes back because something was renamed meanwhile is asked again so often.
const TRIES: u32 = 16;

/// Names of one directory, at most.
const MAX_NAMES: usize = 16;

/// Links of each kind below one start, at most.
pub(crate) const MAX_LINKS: usize = 65_536;

/// Whether this kernel, and whatever we are locked into, answers such a question.
pub(crate) fn are_resolved() -> bool {
    resolve_from(CWD, Path::new("."), OFlags::PATH).is_ok()
}

/// Opens what a path below `start` leads to, through links, unless it leads out.
pub(crate) fn resolve(start: impl AsFd, below: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    for _ in 1..TRIES {
        match resolve_from(start.as_fd(), below, flags) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    resolve_from(start, below, flags)
}

fn resolve_from(start: impl AsFd, below: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(start, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The path without links of something that is open.
pub(crate) fn path_of(open: &OwnedFd) -> rustix::io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let text = readlink(format!("/proc/self/fd/{}", open.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())))
}

/// All paths are as the glob names them, and without links on the way.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Where links to directories lead.
    directories: BTreeMap<PathBuf, PathBuf>,
    /// Where links to files lead, and the other way round.
    files: BTreeMap<PathBuf, PathBuf>,
    by_target: BTreeSet<(PathBuf, PathBuf)>,
    /// Links to directories that this pass has found.
    seen: BTreeSet<PathBuf>,
    /// Links were lost since somebody asked: what they led to may not be covered any more.
    lost: bool,
    /// Links that lead out, as far as that was said.
    out: BTreeSet<PathBuf>,
    /// Links to files of which nobody looks yet whether what they lead to changes.
    unheeded: Vec<PathBuf>,
}

/// What a link to a directory means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lead {
    /// It leads to no directory that is reached by it.
    Nowhere,
    Known(PathBuf),
    New(PathBuf),
    /// It did, to this one, which is not there any more.
    Gone(PathBuf),
    /// It leads out of the start; said once.
    Out,
}

impl Links {
    /// Finds out where a link leads that may lead to a directory. One that leads to a directory above itself is a circle.
    pub(crate) fn lead(&mut self, rule: &Rule, ground: &Ground, link: &Path) -> Lead {
        let before = self.directories.get(link);
        let target = match ground.directory_behind(link) {
            Ok(target) => target.filter(|target| !link.starts_with(target) && !rule.bars(target)),
            Err(Errno::NOENT) if before.is_some_and(|before| !ground.is_there(before)) => {
                self.seen.insert(link.to_owned());
                return before.map_or(Lead::Nowhere, |before| Lead::Gone(before.clone()));
            }
            Err(Errno::XDEV) if self.enters(rule, link) && self.out.len() < MAX_LINKS => {
                self.lose(link);
                return if self.out.insert(link.to_owned()) { Lead::Out } else { Lead::Nowhere };
            }
            Err(_) => None,
        };
        let Some(target) = target.filter(|_| self.enters(rule, link)) else {
            self.lose(link);
            return Lead::Nowhere;
        };
        if self.directories.len() >= MAX_LINKS && before.is_none() {
            return Lead::Nowhere;
        }
        self.seen.insert(link.to_owned());
        match self.directories.insert(link.to_owned(), target.clone()) {
            Some(before) if before == target => return Lead::Known(target),
            Some(_) => self.lost = true,
            None => {}
        }
        Lead::New(target)
    }

    /// There is no link to a directory any more.
    pub(crate) fn lose(&mut self, link: &Path) {
        self.lost |= self.directories.remove(link).is_some();
    }

    /// Where a link to a directory leads.
    pub(crate) fn directory(&self, link: &Path) -> Option<&Path> {
        self.directories.get(link).map(PathBuf::as_path)
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Path> {
        self.directories.values().map(PathBuf::as_path)
    }

    pub(crate) fn begin_pass(&mut self) {
        self.seen.clear();
    }

    /// What was not found again is lost. Yields whether anything was since the last time.
    pub(crate) fn end_pass(&mut self) -> bool {
        let before = self.directories.len();
        self.directories.retain(|link, _| self.seen.contains(link));
        std::mem::take(&mut self.lost) || self.directories.len() != before
    }

    /// The names that a directory has besides its own, each link being gone through once.
    pub(crate) fn names(&self, directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if self.directories.is_empty() {
            return found;
        }
        let mut queue = vec![(directory.to_owned(), Vec::new())];
        while let Some((name, used)) = queue.pop() {
            for (link, target) in &self.directories {
                let Ok(rest) = name.strip_prefix(target) else { continue };
                if used.contains(&link) || found.len() >= MAX_NAMES {
                    continue;
                }
                let other = if rest.as_os_str().is_empty() { link.clone() } else { link.join(rest) };
                if other != directory && !found.contains(&other) {
                    found.push(other.clone());
                    queue.push((other, used.iter().copied().chain([link]).collect()));
                }
            }
        }
        found
    }

    /// Whether a glob can reach files in the directory, under whichever name.
    pub(crate) fn enters(&self, rule: &Rule, directory: &Path) -> bool {
        rule.enters(directory) || self.is_named(rule, directory, |name| rule.enters(name))
    }

    pub(crate) fn covers(&self, rule: &Rule, path: &Path) -> bool {
        rule.covers(path) || self.name_covered(rule, path).is_some()
    }

    /// The name, other than its own, under which a file is covered.
    pub(crate) fn name_covered(&self, rule: &Rule, path: &Path) -> Option<PathBuf> {
        let (directory, name) = (path.parent()?, path.file_name()?);
        if self.directories.is_empty() || rule.bars(path) {
            return None;
        }
        self.names(directory).into_iter().map(|other| other.join(name)).find(|path| rule.covers(path))
    }

    fn is_named(&self, rule: &Rule, directory: &Path, fits: impl Fn(&Path) -> bool) -> bool {
        !self.directories.is_empty()
            && !rule.bars(directory)
            && self.names(directory).iter().any(|name| fits(name))
    }

    /// A link leads to a file. Whether it may be taken at all: there is a bound.
    pub(crate) fn lead_to_file(&mut self, link: &Path, target: PathBuf) -> bool {
        if self.files.get(link) == Some(&target) {
            return true;
        }
        self.lose_file(link);
        if self.files.len() >= MAX_LINKS {
            return false;
        }
        self.by_target.insert((target.clone(), link.to_owned()));
        self.files.insert(link.to_owned(), target);
        self.unheeded.push(link.to_owned());
        true
    }

    pub(crate) fn lose_file(&mut self, link: &Path) {
        if let Some(target) = self.files.remove(link) {
            self.by_target.remove(&(target, link.to_owned()));
        }
    }

    pub(crate) fn target(&self, link: &Path) -> Option<&Path> {
        self.files.get(link).map(PathBuf::as_path)
    }

    /// The links to a file, in order.
    pub(crate) fn to(&self, target: &Path) -> impl Iterator<Item = &Path> {
        let from = (target.to_owned(), PathBuf::new());
        let of_target = self.by_target.range(from..).take_while(move |(found, _)| found == target);
        of_target.map(|(_, link)| link.as_path())
    }

    /// The links to files that are in a directory: to one name, or to any.
    pub(crate) fn leading_into(&self, directory: &Path, name: Option<&OsStr>) -> Vec<PathBuf> {
        if self.by_target.is_empty() {
            return Vec::new();
        }
        if let Some(name) = name {
            return self.to(&directory.join(name)).map(Path::to_owned).collect();
        }
        let from = (directory.to_owned(), PathBuf::new());
        let below = self.by_target.range(from..).take_while(|(target, _)| target.starts_with(directory));
        let inside = below.filter(|(target, _)| target.parent() == Some(directory));
        inside.map(|(_, link)| link.clone()).collect()
    }

    /// The directories in which files change that links lead to.
    pub(crate) fn heeded(&self) -> impl Iterator<Item = &Path> {
        self.files.values().filter_map(|target| target.parent())
    }

    pub(crate) fn take_unheeded(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.unheeded)
    }

    pub(crate) const fn has_unheeded(&self) -> bool {
        !self.unheeded.is_empty()
    }
}
