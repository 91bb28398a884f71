//! Looks at the file system: what is at a path now, and what kind of file system it is on. The only
//! facts that decisions are made on; called by the walker and by the settle stage.

use std::{collections::HashMap, ffi::OsStr, os::fd::AsFd, path::Path};

use hetuflow_core::event::FileKind;
use rustix::{
    fs::{AtFlags, CWD, FileType, StatFs, Statx, StatxFlags, StatxTimestamp, fstatfs, statfs, statx},
    io::Errno,
};

use crate::version::Version;

/// What is at a path. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    File(FileFact),
    Directory(DirFact),
    /// A link, socket, device or pipe.
    Other,
    Absent,
    /// The question was not answered, which is not the same as "absent".
    Unknown(Errno),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileFact {
    pub(crate) version: Version,
    /// `ctime`: when the file was last touched at all, and no user can set it.
    pub(crate) changed: i64,
    pub(crate) device: u64,
    /// Names that it has.
    pub(crate) links: u32,
    pub(crate) way: Way,
}

impl FileFact {
    pub(crate) const fn kind(&self) -> FileKind {
        match self.way {
            Way::Itself => FileKind::File,
            Way::Link | Way::Out => FileKind::Link,
            Way::Whole { .. } => FileKind::Directory,
        }
    }

    /// The version that is told and remembered. A directory is told once, whatever is in it.
    pub(crate) const fn told(&self) -> Version {
        match self.way {
            Way::Itself | Way::Link | Way::Out => self.version,
            Way::Whole { .. } => self.version.of_directory(),
        }
    }

    /// In a directory.
    pub(crate) const fn files(&self) -> u64 {
        match self.way {
            Way::Itself | Way::Link | Way::Out => 1,
            Way::Whole { files } => files,
        }
    }

    /// A directory of which nothing is known but which it is.
    pub(crate) const fn whole(directory: DirFact) -> Self {
        let DirFact { identity: DirIdentity { ino, btime }, changed, device } = directory;
        let version = Version { ino, btime, size: 0, mtime: 0 };
        Self { version, changed, device, links: 1, way: Way::Whole { files: 0 } }
    }
}

/// How a file is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Itself,
    /// By a link, which was last touched when the file was, if not later.
    Link,
    /// It is a link that leads out of where we look, and all that is known is about the link.
    Out,
    /// It is a directory, with so many files in it; more than can be told: more than may be.
    Whole {
        files: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirFact {
    pub(crate) identity: DirIdentity,
    pub(crate) changed: i64,
    pub(crate) device: u64,
}

/// Which directory it is. The device number is no part of it: it may change with a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirIdentity {
    pub(crate) ino: u64,
    pub(crate) btime: Option<i64>,
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// By its whole path, on the way to which links are followed: for the start of a glob, which whoever wrote it named.
pub(crate) fn see(path: &Path) -> Seen {
    seen(&statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, WANTED))
}

/// What has that name in an open directory.
pub(crate) fn see_in(directory: impl AsFd, name: &OsStr) -> Seen {
    seen(&statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, WANTED))
}

/// A link itself, as if it were a file; `None`: it is none.
pub(crate) fn see_link(directory: impl AsFd, name: &OsStr) -> Option<FileFact> {
    let mut stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, WANTED).ok()?;
    if FileType::from_raw_mode(u32::from(stat.stx_mode)) != FileType::Symlink {
        return None;
    }
    stat.stx_mode = u16::try_from(FileType::RegularFile.as_raw_mode()).unwrap_or_default();
    match classify(&stat) {
        Seen::File(fact) => Some(FileFact { way: Way::Out, ..fact }),
        Seen::Directory(_) | Seen::Other | Seen::Absent | Seen::Unknown(_) => None,
    }
}

/// What is open.
pub(crate) fn see_open(file: impl AsFd) -> Seen {
    seen(&statx(file, "", AtFlags::EMPTY_PATH, WANTED))
}

fn seen(stat: &rustix::io::Result<Statx>) -> Seen {
    match stat {
        Ok(stat) => classify(stat),
        Err(Errno::NOENT | Errno::NOTDIR) => Seen::Absent,
        Err(errno) => Seen::Unknown(*errno),
    }
}

fn classify(stat: &Statx) -> Seen {
    let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let btime = born.then(|| nanos(stat.stx_btime));
    let changed = nanos(stat.stx_ctime);
    let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => {
            let (ino, size, mtime) = (stat.stx_ino, stat.stx_size, nanos(stat.stx_mtime));
            let version = Version { ino, btime, size, mtime };
            Seen::File(FileFact { version, changed, device, links: stat.stx_nlink, way: Way::Itself })
        }
        FileType::Directory => {
            Seen::Directory(DirFact { identity: DirIdentity { ino: stat.stx_ino, btime }, changed, device })
        }
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Seen::Other,
    }
}

fn nanos(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

/// What a file system can be trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FsKind {
    /// All its writers are on this kernel: events are complete and the writer test is exact.
    Local,
    /// Others write to it, so it is polled, and who has a file open is not known.
    Remote,
    /// It sends events, but the writer test is not known to work on it.
    Other,
}

impl FsKind {
    fn of(found: rustix::io::Result<StatFs>) -> Self {
        match found {
            Ok(found) => Self::from_magic(u64::from_ne_bytes(found.f_type.to_ne_bytes()) & 0xFFFF_FFFF),
            Err(_) => Self::Other,
        }
    }

    fn from_magic(magic: u64) -> Self {
        match magic {
            // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs, ramfs, bcachefs
            0xEF53 | 0x5846_5342 | 0x9123_683E | 0x0102_1994 | 0x794C_7630 | 0x2FC1_2FC1 | 0xF2F5_2010
            | 0x8584_58F6 | 0xCA45_1A4E => Self::Local,
            // nfs, smb, smb2, cifs, fuse and virtiofs, 9p, ceph, afs, lustre, gpfs, coda, vboxsf
            0x6969 | 0x517B | 0xFE53_4D42 | 0xFF53_4D42 | 0x6573_5546 | 0x0102_1997 | 0x00C3_6400
            | 0x5346_414F | 0x0BD0_0BD0 | 0x4750_4653 | 0x7375_7245 | 0x786F_4256 => Self::Remote,
            _ => Self::Other,
        }
    }
}

/// Whether others write there, and locks may not be locks.
pub fn is_remote(path: &Path) -> bool {
    FsKind::of(statfs(path)) == FsKind::Remote
}

/// Whether what writes one new name to the disk writes all that came before: file systems with a journal that all share.
pub(crate) fn journals_names(open: impl AsFd) -> bool {
    // ext4, xfs
    fstatfs(open).is_ok_and(|found| [0xEF53, 0x5846_5342].contains(&(found.f_type & 0xFFFF_FFFF)))
}

/// The kind of every device seen so far, so that `statfs` runs once per device.
#[derive(Debug, Default)]
pub(crate) struct FsKinds(HashMap<u64, FsKind>);

impl FsKinds {
    /// `open` is something on it.
    pub(crate) fn of(&mut self, device: u64, open: impl AsFd) -> FsKind {
        *self.0.entry(device).or_insert_with(|| FsKind::of(fstatfs(open)))
    }

    /// Of what is open, wherever that is.
    pub(crate) fn of_open(&mut self, open: impl AsFd) -> FsKind {
        match see_open(&open) {
            Seen::File(fact) => self.of(fact.device, open),
            Seen::Directory(_) | Seen::Other | Seen::Absent | Seen::Unknown(_) => FsKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_file_systems() {
        assert_eq!(FsKind::from_magic(0xEF53), FsKind::Local);
        // nfs, cifs, smb2, 9p, fuse, ceph
        for remote in [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x6573_5546, 0x00C3_6400] {
            assert_eq!(FsKind::from_magic(remote), FsKind::Remote, "{remote:x}");
        }
        assert_eq!(FsKind::from_magic(0x1234_5678), FsKind::Other);
    }

    #[test]
    fn what_is_at_a_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("f");
        assert_eq!(see(&file), Seen::Absent);
        std::fs::write(&file, "abc").expect("a file");
        assert!(matches!(see(&file), Seen::File(fact) if fact.version.size == 3));
        assert!(matches!(see(dir.path()), Seen::Directory(_)));
        std::os::unix::fs::symlink(&file, dir.path().join("l")).expect("a link");
        assert_eq!(see(&dir.path().join("l")), Seen::Other);
        assert_eq!(see(&file.join("below-a-file")), Seen::Absent);
    }
}
