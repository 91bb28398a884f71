//! Names that programs give to files which are not finished, or not meant for anyone: partial
//! uploads and downloads, editors' swap and save files, leftovers of network file systems. They are
//! never reported, whatever a glob says. Upper and lower case are the same here.

use std::ffi::OsStr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

#[rustfmt::skip]
const FILES: &[&str] = &[
    // uploads and downloads
    "*.part", "*.partial", "*.filepart", "*.crdownload", "*.download", "*.opdownload", "*.tmp", "*.temp",
    "*.inprogress", "*.incomplete", "*.upload", "*.uploading", "*.writing", "*.aria2", "*.!ut", "*.!qb", "*.bc!",
    "*._copying_",
    // rsync; ProFTPD's hidden stores; Syncthing
    ".*.??????", ".in.*.", ".syncthing.*.tmp", "~syncthing~*.tmp",
    // locks, editors, office programs
    "*.lock", "*.lck", "*.swp", "*.swo", "*.swx", "*~", "~$*", ".~lock.*#", ".#*", "#*#", "4913", ".goutputstream-*",
    // what is left of deleted files on network file systems
    ".nfs*", ".fuse_hidden*", ".smbdelete*",
    // desktops
    ".ds_store", "._*", "thumbs.db", "desktop.ini",
];

#[rustfmt::skip]
const DIRECTORIES: &[&str] = &[
    // our own
    ".hetuflow",
    // of others
    ".rsync-partial", ".~tmp~", "@eadir", "#recycle", ".snapshot", ".stversions", "lost+found", "$recycle.bin",
];

#[derive(Debug, Clone)]
pub(crate) struct Noise {
    files: GlobSet,
    directories: GlobSet,
}

impl Noise {
    pub(crate) fn new() -> Result<Self, globset::Error> {
        Ok(Self { files: compile(FILES)?, directories: compile(DIRECTORIES)? })
    }

    pub(crate) fn is_file(&self, name: impl AsRef<OsStr>) -> bool {
        self.files.is_match(name.as_ref())
    }

    pub(crate) fn is_directory(&self, name: impl AsRef<OsStr>) -> bool {
        self.directories.is_match(name.as_ref())
    }
}

fn compile(globs: &[&str]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).case_insensitive(true).literal_separator(true).build()?);
    }
    set.build()
}
