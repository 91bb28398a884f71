//! `[on.file]`: what the agents that `agents` selects shall watch for. The types are also the form in which an agent
//! receives it, under the same names as in the file; [`read`] reads the file.

mod capture;
mod field;
mod name_template;
pub(super) mod read;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use capture::{CaptureRule, Captures};
pub use field::FileField;
pub use name_template::NameTemplate;

use crate::labels::Selector;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file, under its name there")]
pub struct FileSource {
    /// Globs. One that does not start with `/` starts at the agent's data directory.
    pub paths: Vec<String>,
    /// Files that match one of these are not seen, nor are directories entered.
    #[serde(skip_serializing_if = "is_default")]
    pub exclude: Vec<String>,
    /// Empty: every agent.
    #[serde(skip_serializing_if = "is_default")]
    pub agents: Selector,
    #[serde(skip_serializing_if = "is_arrived")]
    pub events: Vec<FileChange>,
    /// How long a file must stay unchanged. Without it 250 ms where the agent can see that nobody has
    /// the file open for writing, otherwise 10 s.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub settle: Option<Duration>,
    #[serde(skip_serializing_if = "is_default")]
    pub writer_check: WriterCheck,
    /// A file that is not complete after so long is stuck: an event says so, and it is waited for on.
    #[serde(with = "crate::duration", skip_serializing_if = "is_usual_settle")]
    pub max_settle: Duration,
    /// What happens to files that are there when the trigger is new.
    #[serde(skip_serializing_if = "is_default")]
    pub initial: Initial,
    /// Also files and directories whose name starts with a dot.
    #[serde(skip_serializing_if = "is_default")]
    pub hidden: bool,
    /// Also files with names that programs give to unfinished ones.
    #[serde(skip_serializing_if = "is_default")]
    pub partial: bool,
    /// More globs of names of unfinished files.
    #[serde(skip_serializing_if = "is_default")]
    pub unfinished: Vec<String>,
    /// Globs tell upper from lower case.
    #[serde(skip_serializing_if = "is_true")]
    pub case_sensitive: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub names: Names,
    /// Only files whose name it matches; its named groups are values of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<DateRule>,
    /// Levels of directories, at most: 1 is the one in which a glob starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    pub one_filesystem: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub hardlinks: Hardlinks,
    /// Smaller files are waited for: they may grow.
    #[serde(deserialize_with = "crate::size::deserialize", skip_serializing_if = "is_default")]
    pub min_size: u64,
    /// Larger ones are refused.
    #[serde(deserialize_with = "crate::size::option", skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Since the agent first saw the file.
    #[serde(with = "crate::duration", skip_serializing_if = "is_default")]
    pub min_age: Duration,
    /// By the file's own time.
    #[serde(with = "crate::duration", skip_serializing_if = "is_default")]
    pub min_mtime_age: Duration,
    /// By the file's own time: older files are left alone.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The name of a file that must be there too: `{name}.done`, `{stem}.ok`, `_SUCCESS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_marker: Option<String>,
    /// What becomes of the marker of one file once that is taken.
    #[serde(skip_serializing_if = "is_default")]
    pub done_marker_after: MarkerAfter,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What becomes of a file that is refused: too large, not verified, a bad name.
    #[serde(skip_serializing_if = "is_default")]
    pub on_reject: OnReject,
    #[serde(skip_serializing_if = "is_default")]
    pub dedupe: FileDedupe,
    /// The name of a file system that several agents mount: a file there is one, whoever sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// By what files are sorted that are complete at the same time.
    #[serde(skip_serializing_if = "is_default")]
    pub order: FileField,
    /// One event for many files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<FileBatch>,
    #[serde(skip_serializing_if = "is_default")]
    pub backend: Backend,
    /// Between two looks at a file system that sends no events.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub poll: Option<Duration>,
    /// Between two looks at everything, whatever the system's events say.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub rescan: Option<Duration>,
    /// A path with more events than that is left alone until the time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_guard: Option<LoopGuard>,
    /// Where the job runs: on the agent that saw the file, or wherever its labels fit.
    #[serde(skip_serializing_if = "is_default")]
    pub run_on: RunOn,
    /// Before a process starts, the file must still be the version that the event is about.
    #[serde(skip_serializing_if = "is_true")]
    pub recheck: bool,
    /// What becomes of the file once its tasks have ended well.
    #[serde(skip_serializing_if = "is_default")]
    pub after_success: After,
    /// Likewise, once one of them has failed for good.
    #[serde(skip_serializing_if = "is_default")]
    pub after_failure: After,
    #[serde(skip_serializing_if = "is_default")]
    pub collision: Collision,
}

/// Keys that say what holds anyway are not written: a definition is the same whatever keys a later version adds.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_true(value: &bool) -> bool {
    *value
}

fn is_arrived(events: &[FileChange]) -> bool {
    *events == [FileChange::Arrived]
}

const LONGEST_SETTLE: Duration = Duration::from_hours(6);

fn is_usual_settle(settle: &Duration) -> bool {
    *settle == LONGEST_SETTLE
}

impl Default for FileSource {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: Vec::new(),
            agents: Selector::default(),
            events: vec![FileChange::Arrived],
            settle: None,
            writer_check: WriterCheck::default(),
            max_settle: LONGEST_SETTLE,
            initial: Initial::default(),
            hidden: false,
            partial: false,
            unfinished: Vec::new(),
            case_sensitive: true,
            names: Names::default(),
            capture: None,
            date: None,
            max_depth: None,
            one_filesystem: false,
            hardlinks: Hardlinks::default(),
            min_size: 0,
            max_size: None,
            min_age: Duration::ZERO,
            min_mtime_age: Duration::ZERO,
            max_age: None,
            done_marker: None,
            done_marker_after: MarkerAfter::default(),
            verify: None,
            on_reject: OnReject::default(),
            dedupe: FileDedupe::default(),
            share: None,
            order: FileField::Arrival,
            batch: None,
            backend: Backend::default(),
            poll: None,
            rescan: None,
            loop_guard: None,
            run_on: RunOn::default(),
            recheck: true,
            after_success: After::default(),
            after_failure: After::default(),
            collision: Collision::default(),
        }
    }
}

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
    #[default]
    Any,
    /// No control characters and no `-` at the start; others are refused.
    Portable,
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

fn utc() -> String {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopGuard {
    pub events: u32,
    #[serde(with = "crate::duration")]
    pub within: Duration,
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
