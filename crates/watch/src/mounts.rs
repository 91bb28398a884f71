//! Which directories are on file systems that may leave a question without an answer: those of other machines, and of
//! programs. Found out from the table of mounts alone, so that nobody has to ask such a file system for it. Also where
//! something was mounted or unmounted, which makes no other event.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts(Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    point: PathBuf,
    may_hang: bool,
}

const TABLE: &str = "/proc/self/mountinfo";

/// As many links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

impl Mounts {
    /// As they are now. Without a table every directory is taken for a local one.
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read(TABLE).unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// Where these mounts differ from those before.
    pub(crate) fn since(&self, before: &Self) -> Vec<PathBuf> {
        let new = self.0.iter().filter(|mount| !before.0.contains(mount));
        let gone = before.0.iter().filter(|mount| !self.0.contains(mount));
        new.chain(gone).map(|mount| mount.point.clone()).collect()
    }

    /// Whether a look at the directory, or at something below it, may never be answered.
    pub(crate) fn may_hang(&self, dir: &Path) -> bool {
        let (real, mount) = self.resolve(dir);
        mount.is_some()
            || self
                .0
                .iter()
                .any(|mount| mount.may_hang && mount.point != real && mount.point.starts_with(&real))
    }

    /// Where the file system begins that may not answer for this directory.
    pub(crate) fn remote_point(&self, dir: &Path) -> Option<PathBuf> {
        self.resolve(dir).1.map(Path::to_owned)
    }

    /// The directory without links, as far as that can be known without a question to such a file system, and where
    /// that is mounted.
    fn resolve(&self, dir: &Path) -> (PathBuf, Option<&Path>) {
        let mut real = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(dir).collect();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            real.push(part);
            if let Some(mount) = self.of(&real).filter(|mount| mount.may_hang) {
                return (rest.iter().fold(real, |path, part| path.join(part)), Some(&mount.point));
            }
            let Ok(target) = fs::read_link(&real) else { continue };
            links += 1;
            if links > MAX_LINKS {
                break;
            }
            real.pop();
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            parts(&target).rev().for_each(|part| rest.push_front(part));
        }
        (real, None)
    }

    /// The last one that was mounted hides the others.
    fn of(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.as_os_str().len())
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// `36 35 98:0 /root /point options.. - type source options`, see `proc_pid_mountinfo(5)`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = fields.nth(3)?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { id, point: PathBuf::from(OsString::from_vec(unescape(point))), may_hang: may_hang(kind) })
}

/// Tells when something is mounted or unmounted.
#[derive(Debug)]
pub(crate) struct MountChanges(Option<AsyncFd<File>>);

impl MountChanges {
    /// Without a table it never tells.
    #[expect(deprecated, reason = "the new form is unsafe for the sake of types that are no files")]
    pub(crate) fn new() -> Self {
        let table = File::open(TABLE).and_then(|table| AsyncFd::with_interest(table, Interest::PRIORITY));
        Self(table.inspect_err(|error| tracing::warn!(%error, "mounts are only noticed by looking")).ok())
    }

    pub(crate) async fn next(&self) {
        let Some(table) = &self.0 else { return std::future::pending().await };
        match table.ready(Interest::PRIORITY).await {
            Ok(mut told) => told.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    plain
}

fn may_hang(kind: &[u8]) -> bool {
    const KINDS: [&[u8]; 20] = [
        b"nfs",
        b"nfs4",
        b"cifs",
        b"smb3",
        b"smbfs",
        b"fuse",
        b"fuseblk",
        b"virtiofs",
        b"9p",
        b"ceph",
        b"afs",
        b"lustre",
        b"gpfs",
        b"coda",
        b"vboxsf",
        b"autofs",
        b"beegfs",
        b"orangefs",
        b"ocfs2",
        b"gfs2",
    ];
    KINDS.contains(&kind) || kind.starts_with(b"fuse.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_may_hang_is_read_from_the_table() {
        let dir = tempfile::tempdir().expect("a folder");
        symlink("/far away/in", dir.path().join("link")).expect("linked");
        let mounts = Mounts::parse(
            b"21 1 8:1 / / rw - ext4 /dev/vda rw\n\
              22 21 0:5 / /far\\040away rw,noatime shared:1 - nfs4 host:/x rw\n\
              23 22 8:2 / /far\\040away/disk rw - xfs /dev/vdb rw\n\
              24 21 0:6 / /srv/drop/remote rw - fuse.sshfs host: rw\n\
              25 21 0:7 / /over rw - 9p x rw\n\
              26 21 0:8 / /over rw - tmpfs x rw\n",
        );
        let check = |path: &Path, expected: bool| assert_eq!(mounts.may_hang(path), expected, "{path:?}");
        check(Path::new("/srv/in"), false);
        check(Path::new("/far away"), true);
        check(Path::new("/far away/in/deep"), true);
        check(Path::new("/far"), false);
        check(Path::new("/srv/drop"), true);
        check(Path::new("/srv/drop/local"), false);
        check(Path::new("/srv/drop/remote"), true);
        check(Path::new("/over"), false);
        check(&dir.path().join("link"), true);
        check(&dir.path().join("link/below"), true);
        check(dir.path(), false);
        assert_eq!(mounts.remote_point(&dir.path().join("link")), Some("/far away".into()));
        assert_eq!(mounts.remote_point(Path::new("/srv/drop")), None);
        // Below such a file system a local one is only reached through it.
        check(Path::new("/far away/disk"), true);
    }
}
