//! What is told of a file: the body of a file event.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{labels::Labels, path_text};

/// What it is that has the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    #[default]
    File,
    /// A symbolic link.
    Link,
    /// With all that is in it.
    Directory,
}

impl FileKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Link => "link",
            Self::Directory => "directory",
        }
    }
}

/// Facts about a file that travel with a file event, as its JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Absolute path on the agent.
    pub path: String,
    /// The paths here are not UTF-8, and percent-encoded as [`path_text`] has it. Never those of `files`, which say so
    /// themselves.
    #[serde(default, skip_serializing_if = "is_no")]
    pub percent_encoded: bool,
    pub size: u64,
    pub mtime: Timestamp,
    /// Of a link, all the rest is about the file that it leads to; of a directory, `size` and `mtime` are about all that is in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: FileKind,
    /// Files in a directory, at any depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Which directory it is: another one may take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// `arrived`, `created`, `modified`, `deleted`, `moved`, `batch`; `stuck` and `rejected` are for other triggers.
    pub change: String,
    #[serde(default)]
    pub labels: Labels,
    /// What `capture` found in its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captures: BTreeMap<String, String>,
    /// Where a file was found that was claimed: renamed to `path` before it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_from: Option<String>,
    /// Where a file that moved was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// Why it is stuck or was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of its bytes in hex, where the trigger asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A process starts only while the file is still the version that the event is about.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub recheck: bool,
    /// The files of a batch. Its `path` is then their directory, its `size` their sum, its `mtime` the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFacts>,
}

/// Types of events about files that run nothing of the trigger that watches for them.
pub(super) const NOTICES: [&str; 2] = ["stuck", "rejected"];

impl FileFacts {
    /// The `change` of a batch.
    pub const BATCH: &str = "batch";

    /// With these paths, and nothing else that is known.
    #[must_use]
    pub fn of(path: &Path, claimed_from: Option<&Path>, old_path: Option<&Path>) -> Self {
        let mut paths = std::iter::once(path).chain(claimed_from).chain(old_path);
        let percent_encoded = paths.any(|path| path.to_str().is_none());
        let text = |path: &Path| match path.to_str() {
            Some(text) if !percent_encoded => text.to_owned(),
            _ => path_text::encode(path.as_os_str()),
        };
        Self {
            path: text(path),
            percent_encoded,
            claimed_from: claimed_from.map(text),
            old_path: old_path.map(text),
            ..Self::default()
        }
    }

    /// Of these files, which are in this directory or below it.
    #[must_use]
    pub fn batch(directory: &Path, files: Vec<Self>) -> Self {
        Self {
            size: files.iter().map(|file| file.size).sum(),
            mtime: files.iter().map(|file| file.mtime).max().unwrap_or_default(),
            change: Self::BATCH.to_owned(),
            files,
            ..Self::of(directory, None, None)
        }
    }

    /// What tells a directory from others that have its name, before or after it. The time of its birth is not known everywhere.
    #[must_use]
    pub fn identity_of(inode: u64, born: Option<i128>) -> String {
        born.map_or_else(|| inode.to_string(), |nanos| format!("{inode}-{nanos}"))
    }

    /// The path itself.
    #[must_use]
    pub fn location(&self) -> PathBuf {
        self.locate(&self.path)
    }

    /// Where it was found, whatever its path is by now.
    #[must_use]
    pub fn found_at(&self) -> PathBuf {
        self.locate(self.claimed_from.as_deref().unwrap_or(&self.path))
    }

    #[must_use]
    pub fn old_location(&self) -> Option<PathBuf> {
        self.old_path.as_deref().map(|path| self.locate(path))
    }

    /// What claims to be encoded and is not is taken as it is: such a body is none of ours.
    fn locate(&self, text: &str) -> PathBuf {
        let decoded = self.percent_encoded.then(|| path_text::decode(text)).flatten();
        decoded.map_or_else(|| PathBuf::from(text), PathBuf::from)
    }

    /// What it tells of is for other triggers; the one that watches for the file runs nothing.
    #[must_use]
    pub fn is_notice(&self) -> bool {
        NOTICES.contains(&self.change.as_str())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_no(value: &bool) -> bool {
    !*value
}

impl Default for FileFacts {
    fn default() -> Self {
        Self {
            path: String::new(),
            percent_encoded: false,
            size: 0,
            mtime: Timestamp::UNIX_EPOCH,
            kind: FileKind::default(),
            count: None,
            identity: None,
            change: "arrived".to_owned(),
            labels: Labels::default(),
            captures: BTreeMap::new(),
            claimed_from: None,
            old_path: None,
            reason: None,
            sha256: None,
            recheck: true,
            files: Vec::new(),
        }
    }
}
