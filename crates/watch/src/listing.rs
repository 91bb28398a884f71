//! The names in a directory that is open. Asked by the walk and by the explanation of a trigger.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};

use crate::{
    ground::open_in,
    probe::{Seen, see_in},
};

/// Bytes of names that the kernel gives at once.
const CHUNK: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Listing {
    directory: OwnedFd,
    pub(crate) directories: HashSet<OsString>,
    /// Files, and what else is not a directory.
    pub(crate) others: HashSet<OsString>,
    /// Those of them that may be links.
    links: HashSet<OsString>,
}

impl Listing {
    pub(crate) fn read(directory: OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(&directory, ".", flags, Mode::empty())?;
        let (directories, others, links) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut listing = Self { directory, directories, others, links };
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut entries = RawDir::new(opened, chunk.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            listing.add(OsStr::from_bytes(entry.file_name().to_bytes()), entry.file_type());
        }
        Ok(listing)
    }

    fn add(&mut self, name: &OsStr, kind: FileType) {
        if name == "." || name == ".." {
            return;
        }
        // Not every file system says so in its listings.
        let is_directory = kind == FileType::Directory
            || (kind == FileType::Unknown && matches!(self.see(name), Seen::Directory(_)));
        if matches!(kind, FileType::Symlink | FileType::Unknown) && !is_directory {
            self.links.insert(name.to_owned());
        }
        let names = if is_directory { &mut self.directories } else { &mut self.others };
        names.insert(name.to_owned());
    }

    /// What is now at a name in the very directory that was listed.
    pub(crate) fn see(&self, name: impl AsRef<OsStr>) -> Seen {
        see_in(&self.directory, name.as_ref())
    }

    /// A file in it, to be read.
    pub(crate) fn open(&self, name: impl AsRef<OsStr>) -> rustix::io::Result<File> {
        open_in(&self.directory, name.as_ref())
    }

    pub(crate) fn may_be_link(&self, name: &OsStr) -> bool {
        self.links.contains(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.others.is_empty()
    }
}
