//! `[on.file]`: what the agents that `agents` selects shall watch for. The types are also the form in which an agent
//! receives it, under the same names as in the file; [`read`] reads the file.

mod capture;
mod field;
mod name_template;
pub(super) mod read;
mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use capture::{CaptureRule, Captures};
pub use field::FileField;
pub use name_template::NameTemplate;
pub use values::{
    After, Backend, Claim, Collision, DateRange, DateRule, FileBatch, FileChange, FileDedupe, FileLimits,
    FileSequence, FileStrict, Hardlinks, Initial, Kind, LoopGuard, MarkerAfter, Names, OnFailure, OnReject,
    OnTimeout, RunOn, Symlinks, Verify, WriterCheck,
};

use crate::labels::Selector;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file, under its name there")]
pub struct FileSource {
    /// Globs. One that does not start with `/` starts at the agent's data directory.
    pub paths: Vec<String>,
    /// What is told: one of them.
    #[serde(skip_serializing_if = "is_files")]
    pub kinds: Vec<Kind>,
    /// Files that match one of these are not seen, nor are directories entered.
    #[serde(skip_serializing_if = "is_default")]
    pub exclude: Vec<String>,
    /// Empty: every agent.
    #[serde(skip_serializing_if = "is_default")]
    pub agents: Selector,
    #[serde(skip_serializing_if = "is_arrived")]
    pub events: Vec<FileChange>,
    /// How long a file must stay unchanged. Without it 250 ms where the agent can see that nobody has
    /// the file open for writing (none if it was renamed into place), otherwise 10 s.
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
    pub symlinks: Symlinks,
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
    /// Files are told one number after the other, where `order` is a capture that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<FileSequence>,
    /// Of each group one file, or one batch, is under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<FileStrict>,
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
    #[serde(skip_serializing_if = "is_default")]
    pub limits: FileLimits,
    /// A path with more events than that is left alone until the time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_guard: Option<LoopGuard>,
    /// Where the job runs: on the agent that saw the file, or wherever its labels fit.
    #[serde(skip_serializing_if = "is_default")]
    pub run_on: RunOn,
    /// Before a process starts, the file must still be the version that the event is about.
    #[serde(skip_serializing_if = "is_true")]
    pub recheck: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub claim: Claim,
    /// What becomes of the file once its tasks have ended well.
    #[serde(skip_serializing_if = "is_default")]
    pub after_success: After,
    /// Likewise, once one of them has failed for good.
    #[serde(skip_serializing_if = "is_default")]
    pub after_failure: After,
    #[serde(skip_serializing_if = "is_default")]
    pub collision: Collision,
    /// The server judges deadlines, and must know up to when it was told of everything.
    #[serde(skip_serializing_if = "is_default")]
    pub has_deadlines: bool,
}

/// Keys that say what holds anyway are not written: a definition is the same whatever keys a later version adds.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_true(value: &bool) -> bool {
    *value
}

fn is_files(kinds: &[Kind]) -> bool {
    *kinds == [Kind::File]
}

fn is_arrived(events: &[FileChange]) -> bool {
    *events == [FileChange::Arrived]
}

impl FileSource {
    /// Whether directories are told, each as one piece, and no files.
    #[must_use]
    pub fn tells_directories(&self) -> bool {
        self.kinds == [Kind::Directory]
    }
}

const LONGEST_SETTLE: Duration = Duration::from_hours(6);

fn is_usual_settle(settle: &Duration) -> bool {
    *settle == LONGEST_SETTLE
}

impl Default for FileSource {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            kinds: vec![Kind::File],
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
            symlinks: Symlinks::default(),
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
            sequence: None,
            strict: None,
            batch: None,
            backend: Backend::default(),
            poll: None,
            rescan: None,
            limits: FileLimits::default(),
            loop_guard: None,
            run_on: RunOn::default(),
            recheck: true,
            claim: Claim::default(),
            after_success: After::default(),
            after_failure: After::default(),
            collision: Collision::default(),
            has_deadlines: false,
        }
    }
}
