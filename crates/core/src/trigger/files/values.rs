//! What the keys of `[on.file]` can say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FileField;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// A complete file that was not there before, or a new version of one that was.
    Arrived,
    Created,
    Modified,
    Deleted,
    Moved,
    /// Not complete after `max_settle`. An event for other triggers.
    Stuck,
    /// Refused, with a reason. An event for other triggers.
    Rejected,
}

impl FileChange {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Stuck => "stuck",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the trigger's own job never runs for it.
    #[must_use]
    pub const fn is_notice(self) -> bool {
        matches!(self, Self::Stuck | Self::Rejected)
    }
}

/// What globs are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    File,
    /// With all that is in it.
    Directory,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    /// They are recorded and left alone.
    #[default]
    Ignore,
    Process,
    /// Those whose own time is not longer ago count as new, the others are left alone.
    NewerThan(#[serde(with = "crate::duration")] Duration),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOn {
    #[default]
    Origin,
    Anywhere,
}

/// Whether it matters who has a file open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriterCheck {
    /// A file with a writer is waited for; where nobody can tell, quiet time decides.
    #[default]
    Auto,
    /// Where nobody can tell, a file is never complete.
    Require,
    /// Quiet time alone decides.
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// Paths that are not UTF-8 are refused.
    #[default]
    Utf8,
    /// So are names with control characters or a `-` at the start.
    Portable,
    Any,
}

/// What a symbolic link is. One that leads out of the directory in which the glob starts is never gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symlinks {
    /// Nothing.
    #[default]
    Ignore,
    /// The file that it leads to.
    File,
    /// Or the directory, with what is in it.
    Follow,
}

/// A file with several names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hardlinks {
    #[default]
    Allow,
    Reject,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// It stays, and an event `file.rejected` says why.
    #[default]
    Report,
    /// It is left alone, silently.
    Ignore,
    /// It is also moved to `.hetuflow/quarantine` in the directory where its glob starts.
    Quarantine,
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// By the system's events, where the file system sends them.
    #[default]
    Auto,
    /// By events of the whole file system, for which the agent needs `CAP_SYS_ADMIN`; without that as `Auto`.
    Fanotify,
    /// By looking.
    Poll,
}

/// A capture that must be a date in a range of days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateRule {
    pub capture: String,
    /// As `strftime` writes it: `%Y%m%d`.
    pub format: String,
    /// Days before today that it may be, first and last: 0 is today.
    #[serde(rename = "in")]
    pub days: DateRange,
    #[serde(default = "utc")]
    pub timezone: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DateRange {
    Today,
    Yesterday,
    /// Today, or one of so many days before.
    Last(u32),
}

pub(super) fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkerAfter {
    /// It is deleted: left there, it would say of the next file of that name that it is whole. One that stands for many
    /// files stays.
    #[default]
    Remove,
    Keep,
}

/// What a complete file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// The name of the file that holds its SHA-256 in hex, as `sha256sum` writes it.
    Sha256(String),
    /// Its last line.
    LastLine(String),
    /// Its first bytes.
    Magic(String),
}

/// When two files are the same to the trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileDedupe {
    pub key: Vec<FileField>,
    /// How long a key is remembered.
    #[serde(with = "crate::duration")]
    pub ttl: Duration,
}

impl Default for FileDedupe {
    fn default() -> Self {
        Self { key: vec![FileField::Path, FileField::Identity], ttl: Duration::from_hours(90 * 24) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileBatch {
    pub max_files: u32,
    /// Since its first file.
    #[serde(with = "crate::duration")]
    pub max_wait: Duration,
    #[serde(deserialize_with = "crate::size::option", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    pub min_files: u32,
    /// A batch is of one directory, or of one value of a capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<FileField>,
    /// What becomes of fewer than `min_files` after `max_wait`.
    pub on_timeout: OnTimeout,
}

impl Default for FileBatch {
    fn default() -> Self {
        Self {
            max_files: 100,
            max_wait: Duration::from_secs(30),
            max_bytes: None,
            min_files: 1,
            group_by: None,
            on_timeout: OnTimeout::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    #[default]
    Fire,
    /// More are waited for.
    Hold,
}

/// Numbers without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSequence {
    /// How long a file waits for the numbers before it.
    #[serde(with = "crate::duration")]
    pub gap_timeout: Duration,
    /// What then becomes of it.
    pub on_timeout: OnTimeout,
    /// Each directory, or each value of a capture, counts for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<FileField>,
}

impl Default for FileSequence {
    fn default() -> Self {
        Self { gap_timeout: Duration::from_mins(10), on_timeout: OnTimeout::default(), group_by: None }
    }
}

/// One file of a group at a time: the next is told once the tasks of the one before have ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileStrict {
    /// What follows when a task has failed.
    pub on_failure: OnFailure,
    /// A file that has waited for so long behind one that failed is told as stuck, once.
    #[serde(with = "crate::duration")]
    pub stuck_after: Duration,
    /// Each directory, or each value of a capture, has an order of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<FileField>,
}

impl Default for FileStrict {
    fn default() -> Self {
        Self { on_failure: OnFailure::default(), stuck_after: Duration::from_mins(10), group_by: None }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Those behind it wait until somebody retries, replays or cancels it.
    #[default]
    Hold,
    /// The next one is told.
    Continue,
}

/// What one agent does for one `[on.file]`, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileLimits {
    /// Files that it remembers. More are not seen, and the watch says so.
    pub files: u64,
    /// Directories below one start of a glob; likewise.
    pub directories: u32,
    /// Files that it tells of in a second; more wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Tasks of the trigger that wait at the server. While there are as many, files wait on disk.
    #[serde(skip_serializing_if = "is_usual_backlog")]
    pub max_pending: u64,
}

const USUAL_BACKLOG: u64 = 10_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_usual_backlog(most: &u64) -> bool {
    *most == USUAL_BACKLOG
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { files: 2_000_000, directories: 200_000, rate: None, max_pending: USUAL_BACKLOG }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopGuard {
    pub events: u32,
    #[serde(with = "crate::duration")]
    pub within: Duration,
}

/// Whether a file is made ours before it is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    #[default]
    None,
    /// It is renamed into `.hetuflow/claimed` in the directory where its glob starts.
    Rename,
}

/// What becomes of a file afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    #[default]
    Keep,
    Delete,
    /// To a path below the directory where its glob starts.
    Move(String),
}

/// A file is there already where one shall be moved to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collision {
    /// The new one gets a name of its own.
    #[default]
    Suffix,
    Overwrite,
    /// The new one stays where it is.
    Keep,
}
