//! What becomes of files afterwards: once the tasks of its event have ended, a file is kept, moved or deleted; one that
//! was refused goes into quarantine. Asked for by the server's answer, kept on disk until it is done, and done only to
//! the very version that the event was about.

use std::{
    io,
    path::{Path, PathBuf},
};

use hetuflow_core::{
    protocol::FileOutcome,
    trigger::{After, Collision, FileSource, NameTemplate},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{beneath::Beneath, version::Version};

/// Where refused files go, below the directory where their glob starts.
const QUARANTINE: &str = ".hetuflow/quarantine";

/// One file and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    /// The dedupe key of the event that tells of it.
    pub(crate) event: String,
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its tasks have not ended.
    Open,
    Succeeded,
    Failed,
    Quarantine,
    /// It is a marker, whose file is taken.
    Spent,
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quarantine => "quarantine",
            Self::Spent => "spent",
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        let known = [Self::Succeeded, Self::Failed, Self::Quarantine, Self::Spent];
        known.into_iter().find(|verdict| verdict.name() == name).unwrap_or(Self::Open)
    }

    /// What the server's answer means; `None`: the file is left as it is.
    pub(crate) const fn of(outcome: FileOutcome) -> Option<Self> {
        match outcome {
            FileOutcome::Open | FileOutcome::Lost => Some(Self::Open),
            FileOutcome::Succeeded => Some(Self::Succeeded),
            FileOutcome::Failed => Some(Self::Failed),
            FileOutcome::Cancelled | FileOutcome::Unknown => None,
        }
    }
}

/// Whether the file is where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fulfilled {
    Stays,
    Gone,
}

/// Whether files of this trigger wait for the end of their tasks.
pub(crate) fn is_asked(source: &FileSource) -> bool {
    source.after_success != After::Keep || source.after_failure != After::Keep
}

/// Does it. A file that is another by now is left alone: it has an event of its own.
pub(crate) fn fulfil(fate: &Fate, source: &FileSource, root: &Path, at: Timestamp) -> io::Result<Fulfilled> {
    let relative = fate.path.strip_prefix(root).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let after = match fate.verdict {
        Verdict::Open => return Ok(Fulfilled::Stays),
        Verdict::Succeeded => source.after_success.clone(),
        Verdict::Failed => source.after_failure.clone(),
        Verdict::Spent => After::Delete,
        Verdict::Quarantine => After::Move(format!("{QUARANTINE}/{{name}}")),
    };
    if after == After::Keep {
        return Ok(Fulfilled::Stays);
    }
    let below = Beneath::open(root)?.following(source.symlinks);
    match below.version(relative)? {
        Some(version) if version == fate.version => {}
        Some(_) => return Ok(Fulfilled::Stays),
        // A crash came after the move.
        None => return Ok(Fulfilled::Gone),
    }
    let collision = if fate.verdict == Verdict::Quarantine { Collision::Suffix } else { source.collision };
    match after {
        After::Keep => return Ok(Fulfilled::Stays),
        After::Delete => below.remove(relative)?,
        After::Move(target) => {
            let target = NameTemplate::path(&target).map_err(io::Error::other)?;
            let name = relative.file_name().unwrap_or_default();
            let target = target.expand(name, &at.to_zoned(TimeZone::system()));
            match below.rename(relative, Path::new(&target), collision) {
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && collision == Collision::Keep =>
                {
                    return Ok(Fulfilled::Stays);
                }
                moved => moved?,
            };
        }
    }
    below.prune(relative.parent());
    Ok(Fulfilled::Gone)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::probe::{Seen, see};

    fn run(source: &str, verdict: Verdict) -> (tempfile::TempDir, Fate, io::Result<Fulfilled>) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("in/a.csv");
        fs::create_dir(dir.path().join("in")).expect("made");
        fs::write(&path, "1").expect("written");
        let Seen::File(fact) = see(&path) else { panic!("a file") };
        let fate = Fate { event: "e".to_owned(), path, version: fact.version, verdict };
        let source: FileSource = toml::from_str(source).expect("a source");
        let at = "2026-03-04T05:06:07Z".parse().expect("a time");
        let done = fulfil(&fate, &source, dir.path(), at);
        (dir, fate, done)
    }

    #[test]
    fn each_fate() {
        let source = "after_success = { move = 'done/{date:%Y}/{name}' }\nafter_failure = 'delete'";
        let check = |verdict, expected, place: Option<&str>| {
            let (dir, fate, done) = run(source, verdict);
            assert_eq!(done.expect("done"), expected);
            assert_eq!(fate.path.exists(), expected == Fulfilled::Stays);
            assert!(place.is_none_or(|place| dir.path().join(place).exists()), "{place:?}");
        };
        check(Verdict::Open, Fulfilled::Stays, None);
        check(Verdict::Succeeded, Fulfilled::Gone, Some("done/2026/a.csv"));
        check(Verdict::Failed, Fulfilled::Gone, None);
        check(Verdict::Quarantine, Fulfilled::Gone, Some(".hetuflow/quarantine/a.csv"));
        assert_eq!(run("", Verdict::Succeeded).2.expect("done"), Fulfilled::Stays);
    }

    #[test]
    fn only_the_version_that_was_meant() {
        let (dir, fate, _) = run("", Verdict::Succeeded);
        let source: FileSource = toml::from_str("after_success = 'delete'").expect("a source");
        let again = |fate: &Fate| fulfil(fate, &source, dir.path(), Timestamp::UNIX_EPOCH).expect("done");
        fs::write(&fate.path, "22").expect("written");
        assert_eq!(again(&fate), Fulfilled::Stays);
        fs::remove_file(&fate.path).expect("removed");
        assert_eq!(again(&fate), Fulfilled::Gone);
    }
}
