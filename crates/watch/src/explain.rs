//! Says of every file below the globs of a trigger what would become of it, and by which rule: for people who ask why a
//! file is not taken. The same rules as in force, asked once, without remembering anything.

mod reach;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{
    Clock, path_text,
    trigger::{Claim, FileSource},
};
use jiff::Timestamp;

use crate::{
    claim::FOLDER,
    gate::{Passage, Subject},
    ground::Ground,
    lease::{self, Writer},
    links::Links,
    listing::Listing,
    noise::Noise,
    probe::{FileFact, FsKinds, Seen, Way, see_open},
    proof::Proven,
    rule::Rule,
    tree::{self, Measure},
    worker::Pulse,
};

/// One path and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub path: PathBuf,
    pub fate: Fate,
    /// Which rule says so; empty for what is taken.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Taken,
    /// It may be taken later.
    Waits,
    /// The trigger does not ask for it.
    Left,
    Rejected,
}

impl Fate {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Waits => "waits",
            Self::Left => "left",
            Self::Rejected => "rejected",
        }
    }
}

/// Looks at up to `limit` paths. `base` is where relative globs start, `own` the directory of the state file.
pub fn explain(source: &FileSource, base: &Path, own: &Path, limit: usize) -> Result<Vec<Explained>, String> {
    let noise = Noise::new().map_err(|error| error.to_string())?;
    let rule = Rule::compile(source, base, own, &noise).map_err(|error| error.to_string())?;
    let found = Vec::new();
    let mut walk =
        Walk { rule: &rule, source, links: Links::default(), found, limit, wall: Clock::system().now() };
    for root in rule.roots() {
        walk.root(root);
    }
    walk.found.sort_by(|one, other| one.path.cmp(&other.path));
    walk.found.dedup();
    Ok(walk.found)
}

struct Walk<'a> {
    rule: &'a Rule,
    source: &'a FileSource,
    /// Those below the start that is walked.
    links: Links,
    found: Vec<Explained>,
    limit: usize,
    wall: Timestamp,
}

impl Walk<'_> {
    fn root(&mut self, root: &Path) {
        match Ground::locate(root) {
            Ok(ground) => {
                let ground = ground.following(self.source.symlinks);
                self.links = reach::links(self.rule, &ground, self.limit);
                self.below(&ground, root);
            }
            Err(error) => {
                self.note(root.to_owned(), Fate::Left, format!("it cannot be listed: {error}"));
            }
        }
    }

    fn below(&mut self, ground: &Ground, root: &Path) {
        let mut queue: Vec<PathBuf> = self.links.targets().map(Path::to_owned).collect();
        queue.push(root.to_owned());
        let mut walked = BTreeSet::new();
        while let Some(directory) = queue.pop() {
            if !walked.insert(directory.clone()) {
                continue;
            }
            let opened = ground.directory(&directory).map_err(io::Error::from);
            let listing = match opened.and_then(Listing::read) {
                Ok(listing) => listing,
                Err(error) => {
                    self.note(directory, Fate::Left, format!("it cannot be listed: {error}"));
                    continue;
                }
            };
            for name in listing.directories.iter().chain(&listing.others) {
                if self.found.len() >= self.limit {
                    return;
                }
                let path = directory.join(name);
                if listing.may_be_link(name)
                    && let Some((fate, reason)) = reach::of_link(self.rule, &self.links, ground, &path)
                {
                    self.note(path, fate, reason);
                    continue;
                }
                match if listing.may_be_link(name) { ground.see(&path) } else { listing.see(name) } {
                    Seen::Directory(_) if self.is_piece(&path) => {
                        let (fate, reason) = self.piece(ground, &path);
                        self.note(path, fate, reason);
                    }
                    Seen::File(_) if self.source.tells_directories() => {
                        self.note(path, Fate::Left, "a file: `kinds` asks for directories".to_owned());
                    }
                    Seen::Directory(_) if self.links.enters(self.rule, &path) => queue.push(path),
                    Seen::Directory(_) => {
                        let own = name == OWN;
                        let reason = if own {
                            "ours: claimed and rejected files"
                        } else {
                            "a directory that no glob reaches, or that is excluded or too deep"
                        };
                        self.note(path, Fate::Left, reason.to_owned());
                    }
                    Seen::File(fact) => self.file(ground, path, fact),
                    Seen::Other => self.note(path, Fate::Left, "a socket, pipe or device".to_owned()),
                    Seen::Absent => {}
                    Seen::Unknown(error) => {
                        self.note(path, Fate::Waits, format!("it cannot be looked at: {error}"));
                    }
                }
            }
        }
    }

    fn note(&mut self, path: PathBuf, fate: Fate, reason: String) {
        self.found.push(Explained { path, fate, reason });
    }

    fn file(&mut self, ground: &Ground, path: PathBuf, fact: FileFact) {
        let (fate, reason) = self.judge(ground, &path, fact);
        let named = self.links.name_covered(self.rule, &path).filter(|_| fate == Fate::Taken);
        let named = named.filter(|_| !self.rule.covers(&path));
        let reason =
            named.map_or(reason, |name| format!("reached by a link, as `{}`", path_text::show(&name)));
        self.note(path, fate, reason);
    }

    /// Whether a directory is told, with all that is in it.
    fn is_piece(&self, path: &Path) -> bool {
        self.source.tells_directories() && self.rule.covers(path) && !self.rule.bars(path)
    }

    fn piece(&self, ground: &Ground, path: &Path) -> (Fate, String) {
        let (kinds, pulse) = (&mut FsKinds::default(), &Pulse::new());
        let most = tree::most(self.source.limits.files);
        match (Measure { ground, kinds, pulse, check: self.source.writer_check }).of(path, most) {
            Ok((_, Writer::Open)) => (Fate::Waits, "somebody has a file in it open for writing".to_owned()),
            Ok((fact, _)) => self.pass(ground, path, fact),
            Err(_) => (Fate::Waits, "it cannot be looked at".to_owned()),
        }
    }

    /// What is taken is renamed first, if the trigger claims: that works within one file system.
    fn claims(&self, ground: &Ground, fact: FileFact) -> (Fate, String) {
        let start = ground.directory(ground.dir()).map(|start| see_open(&start));
        match (self.source.claim, start) {
            (Claim::None, _) => (Fate::Taken, String::new()),
            (Claim::Rename, Ok(Seen::Directory(start))) if start.device != fact.device => (
                Fate::Waits,
                "it is on another file system than the start of its glob: it cannot be claimed".to_owned(),
            ),
            (Claim::Rename, _) => (Fate::Taken, format!("it is renamed into {FOLDER} first")),
        }
    }

    fn judge(&self, ground: &Ground, path: &Path, fact: FileFact) -> (Fate, String) {
        if let Err(uncovered) = self.rule.check(path)
            && !self.links.covers(self.rule, path)
        {
            return (Fate::Left, uncovered.explain().to_owned());
        }
        if fact.way != Way::Out && lease::test(ground.open(path)) == Writer::Open {
            return (Fate::Waits, "somebody has it open for writing".to_owned());
        }
        self.pass(ground, path, fact)
    }

    /// Of what is complete.
    fn pass(&self, ground: &Ground, path: &Path, fact: FileFact) -> (Fate, String) {
        let passage = self.rule.gate.pass(&Subject {
            path,
            captures: &self.rule.captures(path),
            fact,
            seen_for: Duration::MAX,
            wall: self.wall,
        });
        match passage {
            Passage::Wait(reason, _) => (Fate::Waits, reason),
            Passage::Leave(reason) => (Fate::Left, reason),
            Passage::Reject(reason) => (Fate::Rejected, reason),
            Passage::Take => match self.rule.proof.prove_at_once(ground, path, self.wall) {
                Proven::Yes { .. } => self.claims(ground, fact),
                Proven::NotYet { why, .. } => (Fate::Waits, why),
                Proven::No(reason) => (Fate::Rejected, reason),
                Proven::Unhashed => (Fate::Waits, "its checksum is not known".to_owned()),
            },
        }
    }
}

/// The folder of our own, below the start of a glob.
const OWN: &str = ".hetuflow";

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn what_is_claimed_is_said() {
        let base = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(base.path().join("in/.hetuflow/claimed/x")).expect("made");
        fs::write(base.path().join("in/a.csv"), "1").expect("written");
        let source = toml::from_str("paths = ['in/**/*.csv']\nclaim = 'rename'").expect("a source");
        let all = explain(&source, base.path(), Path::new("/none"), 100).expect("explained");
        let all: Vec<_> = all.iter().map(|one| (one.fate, one.reason.as_str())).collect();
        let expected = [
            (Fate::Left, "ours: claimed and rejected files"),
            (Fate::Taken, "it is renamed into .hetuflow/claimed first"),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_directories_are_is_said() {
        let base = tempfile::tempdir().expect("a folder");
        for name in [
            "in/a/1",
            "in/a/sub/2",
            "in/b/_SUCCESS",
            "in/c.part/3",
            "in/.d/4",
            "in/f/6",
            "in/done/5/x",
            "in/file",
        ] {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, "1").expect("written");
        }
        let open = fs::OpenOptions::new().append(true).open(base.path().join("in/f/6")).expect("opened");
        let explained = |more: &str| -> Vec<String> {
            let source = format!(
                "paths = ['in/*']\nkinds = ['directory']\nafter_success = {{ move = 'done/{{name}}' }}\n{more}"
            );
            let source = toml::from_str(&source).expect("a source");
            let all = explain(&source, base.path(), Path::new("/none"), 100).expect("explained");
            let name = |one: &Explained| one.path.file_name().unwrap_or_default().display().to_string();
            let told = |one: &Explained| format!("{}: {} {}", name(one), one.fate.name(), one.reason);
            all.iter().map(|one| told(one).replace(&base.path().display().to_string(), "")).collect()
        };
        let no_glob = "left a directory that no glob reaches, or that is excluded or too deep";
        let expected = |a: &str, b: &str| {
            [
                format!(".d: {no_glob}"),
                format!("a: {a}"),
                format!("b: {b}"),
                format!("c.part: {no_glob}"),
                format!("done: {no_glob}"),
                "f: waits somebody has a file in it open for writing".to_owned(),
                "file: left a file: `kinds` asks for directories".to_owned(),
            ]
        };
        assert_eq!(explained(""), expected("taken ", "taken "));
        let missing = "waits `/in/a/_SUCCESS` is not there";
        assert_eq!(explained("done_marker = '_SUCCESS'"), expected(missing, "taken "));
        let large = "rejected more than 1 files and directories are in it";
        assert_eq!(explained("limits.files = 1"), expected(large, "taken "));
        drop(open);
    }

    #[test]
    fn what_links_lead_to_is_said() {
        let base = tempfile::tempdir().expect("a folder");
        for name in ["in/x/a.csv", "in/.store/b.csv", "in/.store/c.csv", "out/d.csv"] {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, "1").expect("written");
        }
        for (name, text) in [
            ("in/x/l1.csv", "../.store/b.csv"),
            ("in/x/l2.csv", "../.store/b.csv"),
            ("in/x/l3.csv", "a.csv"),
            ("in/x/l4.csv", "../../out/d.csv"),
            ("in/x/l5.csv", "nothing"),
            ("in/l6", ".store"),
            ("in/l7", "../out"),
            ("in/l8", "."),
        ] {
            std::os::unix::fs::symlink(text, base.path().join(name)).expect("linked");
        }
        let explained = |symlinks: &str| -> Vec<String> {
            let source = format!("paths = ['in/*/*.csv']\nsymlinks = '{symlinks}'");
            let source = toml::from_str(&source).expect("a source");
            let all = explain(&source, base.path(), Path::new("/none"), 100).expect("explained");
            let told = |one: &Explained| {
                let path = one.path.strip_prefix(base.path()).expect("below").display().to_string();
                format!("{path}: {} {}", one.fate.name(), one.reason)
                    .replace(&base.path().display().to_string(), "")
            };
            all.iter().map(told).collect()
        };
        let no_glob = "left a directory that no glob reaches, or that is excluded or too deep";
        let ignored = "left a link: `symlinks` says which are gone through";
        let out = format!("rejected {}", crate::gate::LEADS_OUT);
        let same = |path| format!("left it leads to the same file as `{path}`, which is told");
        let directory = "left a link to a directory: `symlinks = \"follow\"` goes through it";
        let lines = |lines: &[(&str, &str)]| -> Vec<String> {
            lines.iter().map(|(path, fate)| format!("{path}: {fate}")).collect()
        };
        let of_root = ["in/l6", "in/l7", "in/l8"].map(|path| (path, ignored));
        let deep = ["l1", "l2", "l3", "l4", "l5"].map(|name| (format!("in/x/{name}.csv"), ignored));
        let mut expected = vec![("in/.store", no_glob)];
        expected.extend(of_root);
        expected.push(("in/x/a.csv", "taken "));
        expected.extend(deep.iter().map(|(path, fate)| (path.as_str(), *fate)));
        assert_eq!(explained("ignore"), lines(&expected));
        let nothing = "left a link that leads to no file";
        let of_files = [
            ("in/.store", no_glob),
            ("in/l6", directory),
            ("in/l7", out.as_str()),
            ("in/l8", directory),
            ("in/x/a.csv", "taken "),
            ("in/x/l1.csv", "taken "),
            ("in/x/l2.csv", &same("/in/x/l1.csv")),
            ("in/x/l3.csv", &same("/in/x/a.csv")),
            ("in/x/l4.csv", out.as_str()),
            ("in/x/l5.csv", nothing),
        ];
        assert_eq!(explained("file"), lines(&of_files));
        let circle =
            "left a link to a directory that no glob reaches by it, that is above it, or that is excluded";
        let followed = [
            ("in/.store/b.csv", "taken reached by a link, as `/in/l6/b.csv`"),
            ("in/.store/c.csv", "taken reached by a link, as `/in/l6/c.csv`"),
            ("in/l6", "left a link to `/in/.store`, which is looked into"),
            ("in/l7", out.as_str()),
            ("in/l8", circle),
            ("in/x/a.csv", "taken "),
            ("in/x/l1.csv", &same("/in/.store/b.csv")),
            ("in/x/l2.csv", &same("/in/.store/b.csv")),
            ("in/x/l3.csv", &same("/in/x/a.csv")),
            ("in/x/l4.csv", out.as_str()),
            ("in/x/l5.csv", nothing),
        ];
        assert_eq!(explained("follow"), lines(&followed));
    }

    #[test]
    fn every_file_has_a_rule_that_decides() {
        let base = tempfile::tempdir().expect("a folder");
        for name in
            ["in/a.csv", "in/b.txt", "in/.c.csv", "in/d.csv.part", "in/old/e.csv", "in/f.csv", "in/big.csv"]
        {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, if name.contains("big") { "12345" } else { "1" }).expect("written");
        }
        fs::write(base.path().join("in").join(OsStr::from_bytes(b"g\xFF.csv")), "1").expect("written");
        let open = fs::OpenOptions::new().append(true).open(base.path().join("in/f.csv")).expect("opened");
        let source =
            toml::from_str("paths = ['in/**/*.csv', 'in/*.part']\nexclude = ['old/**']\nmax_size = 3")
                .expect("a source");
        assert!(
            explain(&source, base.path(), Path::new("/none"), 100).expect_err("refused").contains("*.part")
        );
        let source = toml::from_str("paths = ['in/**']\nexclude = ['old/**', '*.txt']\nmax_size = 3")
            .expect("a source");
        let all = explain(&source, base.path(), Path::new("/none"), 100).expect("explained");
        let all: Vec<String> = all
            .iter()
            .map(|one| {
                let path = path_text::show(one.path.strip_prefix(base.path()).expect("below"));
                format!("{path}: {} {}", one.fate.name(), one.reason)
            })
            .collect();
        assert_eq!(
            all,
            [
                "in/.c.csv: left a part of its path starts with a dot: `hidden = true` takes it",
                "in/a.csv: taken ",
                "in/b.txt: left `exclude` leaves it out, or a directory above it",
                "in/big.csv: rejected it has 5 bytes, more than 3",
                "in/d.csv.part: left its name is one of unfinished files: `partial = true` takes it",
                "in/f.csv: waits somebody has it open for writing",
                "in/g%FF.csv: rejected its path is not UTF-8: `names = \"any\"` takes it",
                "in/old: left a directory that no glob reaches, or that is excluded or too deep",
            ]
        );
        drop(open);
    }
}
