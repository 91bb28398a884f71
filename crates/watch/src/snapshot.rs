//! What is remembered of one watch: the version last reported of every file. The copy in memory of the
//! `file` table, changed only after the commit. A directory's path is held once, not per file.

mod packed;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use self::packed::Packed;
use crate::version::Version;

#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    directories: BTreeMap<PathBuf, Packed>,
    len: u64,
}

impl Snapshot {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn get(&self, path: &Path) -> Option<Version> {
        let (directory, name) = split(path)?;
        self.directories.get(directory)?.get(name)
    }

    pub(crate) fn insert(&mut self, path: &Path, version: Version) {
        let Some((directory, name)) = split(path) else { return };
        if !self.directories.contains_key(directory) {
            self.directories.insert(directory.to_owned(), Packed::default());
        }
        if let Some(names) = self.directories.get_mut(directory)
            && names.insert(name, version)
        {
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        let Some((directory, name)) = split(path) else { return };
        let Some(names) = self.directories.get_mut(directory) else { return };
        if names.remove(name) {
            self.len -= 1;
        }
        if names.is_empty() {
            self.directories.remove(directory);
        }
    }

    /// Files directly in `directory`.
    pub(crate) fn names_in(&self, directory: &Path) -> impl Iterator<Item = &OsStr> {
        self.directories.get(directory).into_iter().flat_map(Packed::names)
    }

    /// Directories with files, at any depth below `directory`, itself included.
    pub(crate) fn directories_under(&self, directory: &Path) -> impl Iterator<Item = &Path> {
        // Paths sort by component, so everything below a directory follows it without a gap.
        let directory = directory.to_owned();
        self.directories
            .range(directory.clone()..)
            .map(|(path, _)| path.as_path())
            .take_while(move |path| path.starts_with(&directory))
    }

    /// Files at any depth below `directory`.
    pub(crate) fn paths_under(&self, directory: &Path) -> Vec<PathBuf> {
        self.directories_under(directory)
            .flat_map(|dir| self.names_in(dir).map(|name| dir.join(name)))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PathBuf, Version)> {
        self.directories
            .iter()
            .flat_map(|(dir, names)| names.iter().map(|(name, version)| (dir.join(name), version)))
    }
}

/// A path as the directory and the name under which it is kept.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { ino: 1, btime: None, size: 0, mtime: 0 };

    #[test]
    fn what_is_below_a_directory() {
        let mut snapshot = Snapshot::default();
        for path in ["/in/a", "/in/x/b", "/in/x/y/c", "/in-2/d", "/in.d/e"] {
            snapshot.insert(Path::new(path), VERSION);
            snapshot.insert(Path::new(path), VERSION);
        }
        assert_eq!(snapshot.len(), 5);
        let mut below = snapshot.paths_under(Path::new("/in"));
        below.sort();
        assert_eq!(below, ["/in/a", "/in/x/b", "/in/x/y/c"].map(PathBuf::from));
        snapshot.remove(Path::new("/in/x/b"));
        snapshot.remove(Path::new("/in/x/b"));
        assert_eq!((snapshot.len(), snapshot.get(Path::new("/in/x/b"))), (4, None));
        assert_eq!(snapshot.paths_under(Path::new("/in/x")), [PathBuf::from("/in/x/y/c")]);
    }
}
