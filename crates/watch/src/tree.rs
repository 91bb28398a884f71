//! A directory as one piece, with all that is in it: how much that is, when anything of it was last touched, and whether
//! somebody has a file of it open for writing. Links in it count as nothing and are not gone through. Asked by the judge and
//! by the explanation of a trigger; what it says of a directory is compared with what it said a while before, so that nothing
//! in a directory needs to be watched.

use std::{
    io,
    path::{Path, PathBuf},
};

use hetuflow_core::trigger::WriterCheck;
use rustix::io::Errno;

use crate::{
    ground::Ground,
    lease::{self, Writer},
    listing::Listing,
    probe::{DirFact, FileFact, FsKind, FsKinds, Seen, Way, see_open},
    version::Version,
    worker::Pulse,
};

/// Files and directories in one piece, at most, whatever a trigger says.
const MOST: u64 = 100_000;

/// Looks at trees.
pub(crate) struct Measure<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) kinds: &'a mut FsKinds,
    pub(crate) pulse: &'a Pulse,
    pub(crate) check: WriterCheck,
}

#[derive(Debug, Default)]
struct Sum {
    entries: u64,
    files: u64,
    bytes: u64,
    /// Nanoseconds since 1970. Whatever is done to a file or a directory sets it to now.
    touched: i64,
    /// There are writers; there are files of which nobody can tell.
    open: bool,
    unknown: bool,
}

/// Of one that is not complete, looking takes so small a part of the time.
pub(crate) const SHARE: u32 = 20;

/// So many entries are one piece.
pub(crate) fn most(files: u64) -> u64 {
    files.min(MOST)
}

impl Measure<'_> {
    /// A directory as if it were a file: of the size of all files in it, and changed when the last of them was.
    pub(crate) fn of(&mut self, path: &Path, most: u64) -> Result<(FileFact, Writer), Seen> {
        let Seen::Directory(directory) = self.ground.see(path) else { return Err(self.ground.see(path)) };
        let mut sum = Sum::default();
        let mut queue = vec![path.to_owned()];
        while let Some(next) = queue.pop() {
            match self.add(&next, &mut sum) {
                Ok(below) => queue.extend(below),
                // It went while we looked: the one above it has changed.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if next != path => {}
                Err(errno) => return Err(Seen::Unknown(errno)),
            }
            if sum.entries > most {
                // How much of it was seen is chance.
                sum = Sum { files: u64::MAX, touched: directory.changed, ..Sum::default() };
                break;
            }
        }
        let writer = match (sum.open, sum.unknown) {
            (true, _) => Writer::Open,
            (false, true) => Writer::Unknown,
            (false, false) => Writer::None,
        };
        Ok((fact(directory, &sum), writer))
    }

    /// What is directly in a directory. Yields the directories in it.
    fn add(&mut self, directory: &Path, sum: &mut Sum) -> rustix::io::Result<Vec<PathBuf>> {
        self.pulse.beat();
        let opened = self.ground.directory(directory)?;
        let Seen::Directory(fact) = see_open(&opened) else { return Err(Errno::NOTDIR) };
        sum.touched = sum.touched.max(fact.changed);
        let is_local = self.kinds.of(fact.device, &opened) == FsKind::Local;
        let listing = Listing::read(opened).map_err(|error| errno(&error))?;
        sum.entries += (listing.directories.len() + listing.others.len()) as u64;
        for name in &listing.others {
            let writer = match self.check {
                WriterCheck::Auto | WriterCheck::Require if is_local => lease::test(listing.open(name)),
                WriterCheck::Auto | WriterCheck::Require | WriterCheck::Off => Writer::Unknown,
            };
            let Seen::File(file) = listing.see(name) else { continue };
            sum.open |= writer == Writer::Open;
            sum.unknown |= writer == Writer::Unknown;
            sum.files += 1;
            sum.bytes += file.version.size;
            sum.touched = sum.touched.max(file.changed);
        }
        sum.unknown |= !is_local;
        Ok(listing.directories.iter().map(|name| directory.join(name)).collect())
    }
}

fn fact(directory: DirFact, sum: &Sum) -> FileFact {
    let DirFact { identity, changed, device } = directory;
    let (ino, btime) = (identity.ino, identity.btime);
    let version = Version { ino, btime, size: sum.bytes, mtime: sum.touched };
    FileFact { version, changed, device, links: 1, way: Way::Whole { files: sum.files } }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_happens_in_a_directory_makes_it_another() {
        lease::survive_sigio();
        let home = tempfile::tempdir().expect("a folder");
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("sub")).expect("made");
        let ground = Ground::locate(home.path()).expect("there");
        let pulse = Pulse::new();
        let look = |most: u64| {
            let mut kinds = FsKinds::default();
            let (ground, check) = (&ground, WriterCheck::Auto);
            Measure { ground, kinds: &mut kinds, pulse: &pulse, check }.of(&tree, most).expect("it is there")
        };
        let mut last = look(100).0;
        let mut changes = |what: &str, files: u64, bytes: u64, change: &dyn Fn()| {
            // The kernel's clock ticks slowly.
            let fact = loop {
                change();
                let (fact, writer) = look(100);
                assert_eq!(writer, Writer::None, "{what}");
                if fact.version != last.version {
                    break fact;
                }
            };
            assert_eq!((fact.way, fact.version.size), (Way::Whole { files }, bytes), "{what}");
            assert_eq!(fact.told(), last.told(), "{what}");
            assert_eq!(look(100).0, fact, "{what}");
            last = fact;
        };
        changes("a file", 1, 3, &|| fs::write(tree.join("sub/a"), "123").expect("written"));
        changes("the same size", 1, 3, &|| fs::write(tree.join("sub/a"), "456").expect("written"));
        changes("another", 2, 7, &|| fs::write(tree.join("b"), "1234").expect("written"));
        changes("a name", 2, 7, &|| {
            fs::rename(tree.join("sub/a"), tree.join("sub/c")).expect("renamed");
            fs::rename(tree.join("sub/c"), tree.join("sub/a")).expect("renamed");
        });
        changes("one less", 1, 4, &|| drop(fs::remove_file(tree.join("sub/a"))));
        let open = fs::OpenOptions::new().append(true).open(tree.join("b")).expect("opened");
        assert_eq!(look(100).1, Writer::Open);
        drop(open);
        assert_eq!(look(1).0.way, Way::Whole { files: u64::MAX });
        fs::remove_dir_all(&tree).expect("removed");
        let mut kinds = FsKinds::default();
        let mut measure =
            Measure { ground: &ground, kinds: &mut kinds, pulse: &pulse, check: WriterCheck::Off };
        assert_eq!(measure.of(&tree, 100), Err(Seen::Absent));
    }
}
