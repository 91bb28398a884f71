//! What tells one version of a file from the next, and the deterministic id of an event about it.
//!
//! Inode numbers are used again at once after a delete, and the time of last change can be set by
//! anyone, so a version is all four together. `ctime` is no part of it: `chmod` makes no new version.

use std::path::Path;

use hetuflow_core::{event::FileFacts, id::AgentId, protocol::FileEvent, trigger::FileChange};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) ino: u64,
    /// Not every file system knows when a file was born.
    pub(crate) btime: Option<i64>,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
}

/// The event that `change` brought `path` to this version (or away from it).
pub(crate) fn event(
    agent: &AgentId,
    key: &str,
    path: &Path,
    change: FileChange,
    version: Version,
    seen_at: Timestamp,
) -> FileEvent {
    // Every path that is tracked came from UTF-8 text and names, so nothing is lost here.
    let path = path.to_string_lossy().into_owned();
    FileEvent {
        key: key.to_owned(),
        dedupe: dedupe(agent, key, &path, change, version),
        facts: FileFacts {
            path,
            size: version.size,
            mtime: Timestamp::from_nanosecond(i128::from(version.mtime)).unwrap_or(Timestamp::UNIX_EPOCH),
            change: change.name().to_owned(),
            labels: hetuflow_core::labels::Labels::default(),
        },
        seen_at,
    }
}

/// The same for the same version of the same file, so that whatever a crash makes us derive again
/// is recognised by the server. Every field is preceded by its length: no two inputs run together.
fn dedupe(agent: &AgentId, key: &str, path: &str, change: FileChange, version: Version) -> String {
    let mut hash = Sha256::new();
    for field in [key, agent.as_str(), path, change.name()] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.update(version.ino.to_be_bytes());
    hash.update([u8::from(version.btime.is_some())]);
    hash.update(version.btime.unwrap_or_default().to_be_bytes());
    hash.update(version.size.to_be_bytes());
    hash.update(version.mtime.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { ino: 7, btime: Some(1), size: 3, mtime: 2 };

    fn id(key: &str, path: &str, change: FileChange, version: Version) -> String {
        let agent = AgentId::new("web-1").expect("a name");
        event(&agent, key, Path::new(path), change, version, Timestamp::UNIX_EPOCH).dedupe
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
        ];
        for other in others {
            assert_ne!(one, other);
        }
    }
}
