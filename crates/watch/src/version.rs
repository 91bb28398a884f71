//! What tells one version of a file from the next, and the deterministic id of an event about it.
//!
//! Inode numbers are used again at once after a delete, and the time of last change can be set by
//! anyone, so a version is all four together. `ctime` is no part of it: `chmod` makes no new version.

use std::path::Path;

use hetuflow_core::{
    event::{FileFacts, FileKind},
    id::AgentId,
    protocol::FileEvent,
    trigger::{Captures, FileChange, FileDedupe, FileField, FileSource},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::probe::FileFact;

/// Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) ino: u64,
    /// Not every file system knows when a file was born.
    pub(crate) btime: Option<i64>,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
}

impl Version {
    /// Which directory it is, whatever is in it.
    pub(crate) const fn of_directory(self) -> Self {
        Self { size: 0, mtime: 0, ..self }
    }
}

/// Who tells, and for which trigger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller<'a> {
    pub(crate) agent: &'a AgentId,
    pub(crate) key: &'a str,
    pub(crate) source: &'a FileSource,
}

/// What happened to a path.
#[derive(Debug, Clone)]
pub(crate) struct Finding<'a> {
    /// Where it was found.
    pub(crate) path: &'a Path,
    /// Where it is, if it was claimed.
    pub(crate) claimed: Option<&'a Path>,
    /// Below where the glob starts.
    pub(crate) relative: &'a Path,
    pub(crate) change: FileChange,
    pub(crate) version: Version,
    /// What is at the path, as far as that is known.
    pub(crate) fact: Option<FileFact>,
    pub(crate) captures: Captures,
    pub(crate) sha256: Option<String>,
    pub(crate) old_path: Option<&'a Path>,
    pub(crate) reason: Option<String>,
}

impl Finding<'_> {
    fn kind(&self) -> FileKind {
        self.fact.map_or(FileKind::File, |fact| fact.kind())
    }

    /// With what is in it, if it is a directory.
    fn seen(&self) -> Version {
        self.fact.filter(|fact| fact.told() == self.version).map_or(self.version, |fact| fact.version)
    }
}

/// The event that says so.
pub(crate) fn event(teller: Teller<'_>, finding: Finding<'_>, seen_at: Timestamp) -> FileEvent {
    let dedupe = dedupe(teller, &finding);
    let (seen, kind) = (finding.seen(), finding.kind());
    let whole = finding.fact.filter(|_| kind == FileKind::Directory);
    let Finding { path, change, version, fact: _, captures, sha256, old_path, reason, claimed, relative: _ } =
        finding;
    let (now, from) = claimed.map_or((path, None), |claimed| (claimed, Some(path)));
    FileEvent {
        key: teller.key.to_owned(),
        dedupe,
        facts: FileFacts {
            size: seen.size,
            mtime: Timestamp::from_nanosecond(i128::from(seen.mtime)).unwrap_or(Timestamp::UNIX_EPOCH),
            kind,
            count: whole.map(|fact| fact.files()).filter(|count| *count != u64::MAX),
            identity: whole.map(|_| FileFacts::identity_of(version.ino, version.btime.map(i128::from))),
            change: change.name().to_owned(),
            captures,
            sha256,
            reason,
            recheck: teller.source.recheck,
            ..FileFacts::of(now, from, old_path)
        },
        members: Vec::new(),
        seen_at,
    }
}

/// The same for the same version of the same file, so that whatever a crash makes us derive again
/// is recognised by the server.
fn dedupe(teller: Teller<'_>, finding: &Finding<'_>) -> String {
    let Teller { agent, key, source } = teller;
    let mut id = Id::default();
    id.field(key);
    match &source.share {
        // Whoever sees it, and wherever it is mounted.
        Some(share) => id.field(share),
        None => id.field(agent.as_str()),
    }
    id.field(finding.change.name());
    let default = FileDedupe::default();
    // Only a file that is there has a content to be known by.
    let chosen = finding.sha256.is_some() || !source.dedupe.key.contains(&FileField::Sha256);
    let parts = if chosen { &source.dedupe.key } else { &default.key };
    for part in parts {
        id.part(part, finding, source.share.is_some());
    }
    id.finish()
}

/// The name of what has these parts, one of them perhaps a version.
pub(crate) fn claim_id<'a>(parts: impl IntoIterator<Item = &'a [u8]>, version: Option<Version>) -> String {
    let mut id = Id::default();
    id.field("claim");
    parts.into_iter().for_each(|part| id.field(part));
    if let Some(version) = version {
        id.identity(version);
    }
    id.finish()
}

/// The id of a batch of these events.
pub(crate) fn batch_id<'a>(members: impl Iterator<Item = &'a str>) -> String {
    let mut id = Id::default();
    id.field("batch");
    members.for_each(|member| id.field(member));
    id.finish()
}

/// Hashes fields, each preceded by its length: no two inputs run together.
#[derive(Default)]
struct Id(Sha256);

impl Id {
    fn field(&mut self, field: impl AsRef<[u8]>) {
        let field = field.as_ref();
        self.0.update((field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    fn part(&mut self, part: &FileField, finding: &Finding<'_>, shared: bool) {
        let Version { size, mtime, .. } = finding.seen();
        let path = if shared { finding.relative } else { finding.path };
        match part {
            FileField::Path | FileField::Natural | FileField::Arrival => self.field(bytes(path)),
            FileField::Name => self.field(finding.path.file_name().unwrap_or_default().as_encoded_bytes()),
            FileField::Directory => self.field(path.parent().map(bytes).unwrap_or_default()),
            FileField::Size => self.field(size.to_be_bytes()),
            FileField::Mtime => self.field(mtime.to_be_bytes()),
            // Other machines number the same file otherwise, and may cut its time to whole seconds.
            FileField::Identity if shared => {
                self.field(size.to_be_bytes());
                self.field(mtime.div_euclid(1_000_000_000).to_be_bytes());
            }
            FileField::Identity => self.identity(finding.version),
            FileField::Sha256 => self.field(finding.sha256.as_deref().unwrap_or_default()),
            FileField::Capture(name) => {
                self.field(finding.captures.get(name).map(String::as_str).unwrap_or_default());
            }
        }
    }

    fn identity(&mut self, Version { ino, btime, size, mtime }: Version) {
        self.field(ino.to_be_bytes());
        self.field(btime.map(i64::to_be_bytes).as_ref().map_or(&[] as &[u8], |btime| btime));
        self.field(size.to_be_bytes());
        self.field(mtime.to_be_bytes());
    }

    fn finish(self) -> String {
        hex::encode(&self.0.finalize()[..16])
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { ino: 7, btime: Some(1), size: 3, mtime: 2 };

    fn found(
        source: &str,
        agent: &str,
        key: &str,
        path: &str,
        change: FileChange,
        version: Version,
    ) -> String {
        let agent = AgentId::new(agent).expect("a name");
        let source: FileSource = toml::from_str(source).expect("a source");
        let path = Path::new(path);
        let relative = path.strip_prefix("/mnt").unwrap_or(path);
        let finding = Finding {
            path,
            claimed: None,
            relative,
            change,
            version,
            fact: None,
            captures: Captures::from([("day".to_owned(), path.display().to_string())]),
            sha256: Some("abc".to_owned()),
            old_path: None,
            reason: None,
        };
        event(Teller { agent: &agent, key, source: &source }, finding, Timestamp::UNIX_EPOCH).dedupe
    }

    fn id(key: &str, path: &str, change: FileChange, version: Version) -> String {
        found("", "web-1", key, path, change, version)
    }

    #[test]
    fn the_id_depends_on_everything_that_matters_and_on_nothing_else() {
        let one = id("default/a", "/in/x", FileChange::Arrived, VERSION);
        assert_eq!(one.len(), 32);
        assert_eq!(one, id("default/a", "/in/x", FileChange::Arrived, VERSION));
        let others = [
            id("default/b", "/in/x", FileChange::Arrived, VERSION),
            id("default/a/in", "/x", FileChange::Arrived, VERSION),
            id("default/a", "/in/x", FileChange::Modified, VERSION),
            id("default/a", "/in/x", FileChange::Arrived, Version { ino: 8, ..VERSION }),
            id("default/a", "/in/x", FileChange::Arrived, Version { btime: None, ..VERSION }),
            id("default/a", "/in/x", FileChange::Arrived, Version { size: 4, ..VERSION }),
            id("default/a", "/in/x", FileChange::Arrived, Version { mtime: 3, ..VERSION }),
            found("", "web-2", "default/a", "/in/x", FileChange::Arrived, VERSION),
        ];
        for other in others {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_file_of_a_share_is_one_whoever_sees_it() {
        let share = "share = \"nas\"";
        let seen =
            |agent, path, version| found(share, agent, "default/a", path, FileChange::Arrived, version);
        let one = seen("web-1", "/mnt/x", VERSION);
        assert_eq!(one, seen("web-2", "/mnt/x", Version { ino: 9, btime: None, mtime: 999, ..VERSION }));
        assert_ne!(one, seen("web-2", "/mnt/y", VERSION));
        assert_ne!(one, seen("web-2", "/mnt/x", Version { size: 9, ..VERSION }));
    }

    #[test]
    fn a_key_of_ones_own() {
        let seen = |key: &str, path, version| {
            found(&format!("dedupe.key = [{key:?}]"), "a", "k", path, FileChange::Arrived, version)
        };
        let other = Version { size: 9, mtime: 9, ..VERSION };
        assert_eq!(seen("name", "/in/x", VERSION), seen("name", "/old/x", other));
        assert_eq!(seen("sha256", "/in/x", VERSION), seen("sha256", "/old/y", other));
        assert_ne!(seen("size", "/in/x", VERSION), seen("size", "/in/x", other));
        assert_ne!(seen("capture:day", "/in/x", VERSION), seen("capture:day", "/in/y", VERSION));
    }
}
