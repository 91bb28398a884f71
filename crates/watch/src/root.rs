//! One directory at which a walk starts: where the fixed part of a glob ends. Whether it is there, what
//! of it was listed, when it is walked again, and what keeps it from working.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hetuflow_core::{
    protocol::WatchHealth,
    trigger::{Backend, Symlinks},
};
use jiff::Timestamp;
use rustix::io::Errno;

use crate::{
    ground::Ground,
    links::Links,
    mounts::Mounts,
    probe::{DirFact, DirIdentity, Seen, see},
    state::RootRecord,
    turn::{Part, Remember},
};

#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) record: RootRecord,
    pub(crate) presence: Presence,
    /// Directories that were listed, each as it was just before.
    pub(crate) known: BTreeMap<PathBuf, DirFact>,
    /// Directories to list.
    pub(crate) queue: Vec<(PathBuf, Walk)>,
    pub(crate) links: Links,
    pub(crate) pass: Option<Pass>,
    problems: Problems,
    /// It is found out by looking what happens in it.
    polled: bool,
    pub(crate) last_pass: Option<Timestamp>,
    next_pass: Instant,
    /// Asked for while a pass ran, which may have gone by already.
    requested: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Not looked for yet.
    Unknown,
    Present {
        ground: Arc<Ground>,
        identity: DirIdentity,
    },
    Missing {
        reason: String,
    },
}

/// How a directory is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// It, and those directories below it that are new or changed.
    Changed,
    /// Everything below it.
    All,
}

/// A walk of the whole root.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) started: Instant,
    /// The root did not exist when the watch was new, so nothing in it is old.
    pub(crate) all_new: bool,
    /// Old files that were found in this turn, to be recorded and left alone.
    pub(crate) old: Vec<Remember>,
    /// There is anything at all in the root.
    pub(crate) occupied: bool,
    /// Directories that were listed, where links make it likely that one is met twice.
    pub(crate) listed: BTreeSet<PathBuf>,
    /// Take the place of the root's when the pass ends.
    pub(crate) problems: Problems,
}

/// What keeps a root from working, in words for the user.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// Set means that the root is polled, by necessity or by its file system's nature.
    pub(crate) limit: Option<String>,
    /// Why other events tell of it than its trigger asks for.
    pub(crate) instead: Option<String>,
    pub(crate) remote: Option<Remote>,
    pub(crate) unreadable: Option<String>,
    pub(crate) too_many: Option<String>,
    /// A directory, and what is to be said of it.
    pub(crate) emptied: Option<(PathBuf, String)>,
}

/// Part of the root is on a file system that others write to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote;

/// When it is walked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) rescan: Duration,
    pub(crate) poll: Duration,
    pub(crate) backend: Backend,
}

/// A root that is missing is looked for this often: one `statx`.
const PROBE: Duration = Duration::from_secs(1);

/// A polled root may use a twentieth of the time for its passes.
const POLL_SHARE: u32 = 20;

impl Root {
    pub(crate) fn new(record: RootRecord, now: Instant) -> Self {
        Self {
            record,
            presence: Presence::Unknown,
            known: BTreeMap::new(),
            queue: Vec::new(),
            links: Links::default(),
            pass: None,
            problems: Problems::default(),
            polled: false,
            last_pass: None,
            next_pass: now,
            requested: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.record.dir
    }

    /// Where everything below it is looked at, while it is there.
    pub(crate) fn ground(&self) -> Option<&Arc<Ground>> {
        match &self.presence {
            Presence::Present { ground, .. } => Some(ground),
            Presence::Unknown | Presence::Missing { .. } => None,
        }
    }

    /// What is at a path below it. Of a root that is not there nothing is known.
    pub(crate) fn see(&self, path: &Path) -> Seen {
        self.ground().map_or(Seen::Unknown(Errno::NOENT), |ground| ground.see(path))
    }

    /// A path of the system's events, as the glob names it.
    pub(crate) fn in_glob(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(self.ground()?.real()).ok()?;
        Some(if below.as_os_str().is_empty() { self.dir().to_owned() } else { self.dir().join(below) })
    }

    /// A path below the root without links, as the system's events name it.
    pub(crate) fn in_system(&self, path: &Path) -> Option<PathBuf> {
        let real = self.ground()?.real();
        let below = path.strip_prefix(self.dir()).ok()?;
        Some(if below.as_os_str().is_empty() { real.to_owned() } else { real.join(below) })
    }

    /// Whether something happened to the root itself, or to a directory above it.
    pub(crate) fn is_at_or_below(&self, path: &Path) -> bool {
        self.ground().is_some_and(|ground| ground.real().starts_with(path))
    }

    /// It is still the directory that was found when the last pass began.
    pub(crate) fn is_in_place(&self) -> bool {
        let Presence::Present { ground, identity } = &self.presence else { return false };
        matches!(ground.see(self.dir()), Seen::Directory(fact) if fact.identity == *identity)
    }

    /// Another directory is in the place of the one that the snapshot is about: something was
    /// (un)mounted, or removed and made again.
    pub(crate) fn is_replaced(&self) -> bool {
        let Presence::Present { identity, .. } = &self.presence else { return false };
        self.record.identity.is_some_and(|remembered| remembered != *identity)
    }

    pub(crate) fn identity(&self) -> Option<DirIdentity> {
        match &self.presence {
            Presence::Present { identity, .. } => Some(*identity),
            Presence::Unknown | Presence::Missing { .. } => None,
        }
    }

    pub(crate) fn wants_pass(&self, now: Instant) -> bool {
        self.pass.is_none() && now >= self.next_pass
    }

    pub(crate) fn request_pass(&mut self, at: Instant) {
        if self.pass.is_some() {
            self.requested = Some(self.requested.map_or(at, |earlier| earlier.min(at)));
        } else {
            self.next_pass = self.next_pass.min(at);
        }
    }

    /// When it next needs the engine.
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        if self.pass.is_some() || !self.queue.is_empty() || self.links.has_unheeded() {
            now
        } else {
            self.next_pass
        }
    }

    pub(crate) fn begin_pass(&mut self, real: &Path, fact: DirFact, symlinks: Symlinks, now: Instant) {
        let all_new = !self.record.done && self.record.absent_device == Some(fact.device);
        let ground = Arc::new(Ground::new(self.dir(), real).following(symlinks));
        self.presence = Presence::Present { ground, identity: fact.identity };
        self.queue = vec![(self.dir().to_owned(), Walk::All)];
        self.links.begin_pass();
        let (old, listed, problems) = (Vec::new(), BTreeSet::new(), Problems::default());
        self.pass = Some(Pass { started: now, all_new, old, occupied: false, listed, problems });
    }

    /// What is in a directory has another meaning than when it was listed in this pass.
    pub(crate) fn unlist(&mut self, directory: &Path) {
        if let Some(pass) = &mut self.pass {
            pass.listed.retain(|listed| !listed.starts_with(directory));
        }
    }

    /// Whether a directory is still to be listed in the pass that is under way, if any.
    pub(crate) fn is_unlisted(&mut self, directory: &Path) -> bool {
        self.pass.as_mut().is_none_or(|pass| pass.listed.insert(directory.to_owned()))
    }

    /// Where to note a problem: what a pass finds holds from its end on, so that a problem that stays
    /// does not come and go.
    pub(crate) fn problems(&mut self) -> &mut Problems {
        match &mut self.pass {
            Some(pass) => &mut pass.problems,
            None => &mut self.problems,
        }
    }

    /// The path is in a directory that was found empty and was not before: what comes to be there shows that it is in use.
    pub(crate) fn is_emptied(&self, path: &Path) -> bool {
        let passing = self.pass.as_ref().and_then(|pass| pass.problems.emptied.as_ref());
        let emptied = passing.or(self.problems.emptied.as_ref());
        emptied.is_some_and(|(directory, _)| path.starts_with(directory))
    }

    pub(crate) fn old_found(&self) -> usize {
        self.pass.as_ref().map_or(0, |pass| pass.old.len())
    }

    /// Hands over the old files that this turn has found, with the directory that they are in: should another be in its place
    /// before the pass ends, nobody has deleted them.
    pub(crate) fn hand_over_old(&mut self, part: &mut Part) {
        let old = self.pass.as_mut().map(|pass| std::mem::take(&mut pass.old)).unwrap_or_default();
        if !old.is_empty() && self.record.identity.is_none() {
            part.roots.push(RootRecord { identity: self.identity(), ..self.record.clone() });
        }
        part.files.extend(old);
    }

    /// What the pass has found so far is lost.
    pub(crate) fn repeat_pass(&mut self, at: Instant) {
        self.pass = None;
        self.request_pass(at);
    }

    /// Ends the pass, and plans the next one.
    pub(crate) fn end_pass(&mut self, now: Instant, pauses: Pauses) -> Option<Pass> {
        let mut pass = self.pass.take()?;
        self.problems = std::mem::take(&mut pass.problems);
        self.polled = pauses.backend == Backend::Poll
            || self.problems.limit.is_some()
            || self.problems.remote.is_some();
        let poll = pauses.poll.max((now - pass.started) * POLL_SHARE);
        let pause = if self.polled { poll } else { pauses.rescan };
        self.next_pass = self.requested.take().unwrap_or(now + pause);
        Some(pass)
    }

    /// Nothing is concluded from a root that is not there: no file in it counts as deleted.
    pub(crate) fn lose(&mut self, reason: String, now: Instant) {
        self.presence = Presence::Missing { reason };
        self.queue.clear();
        self.known.clear();
        self.pass = None;
        self.requested = None;
        self.problems = Problems::default();
        self.next_pass = now + PROBE;
    }

    /// What was there before is on record, even if that is "nothing, the root did not exist".
    pub(crate) const fn is_recorded(&self) -> bool {
        self.record.done || self.record.absent_device.is_some()
    }

    pub(crate) fn health(&self) -> WatchHealth {
        let Problems { unreadable, too_many, emptied, .. } = &self.problems;
        if matches!(self.presence, Presence::Missing { .. }) || emptied.is_some() {
            WatchHealth::Offline
        } else if unreadable.is_some() || too_many.is_some() {
            WatchHealth::Degraded
        } else if self.polled {
            WatchHealth::Polling
        } else {
            WatchHealth::Live
        }
    }

    /// Whether the directory is on the file system that the root is on.
    pub(crate) fn is_on_device_of(&self, directory: &Path) -> bool {
        let device = |path: &Path| match self.see(path) {
            Seen::Directory(fact) => Some(fact.device),
            Seen::File(_) | Seen::Other | Seen::Absent | Seen::Unknown(_) => None,
        };
        device(self.dir()).is_some_and(|own| device(directory) == Some(own))
    }

    pub(crate) fn describe(&self, poll: Duration) -> Vec<String> {
        let dir = self.dir().display();
        let mut all = Vec::new();
        if let Presence::Missing { reason } = &self.presence {
            all.push(format!(
                "`{dir}` cannot be watched: {reason}; watching starts by itself once it is there"
            ));
        }
        let Problems { limit, instead, unreadable, too_many, emptied, remote } = &self.problems;
        // No events tell of what others write.
        let instead = instead.as_ref().filter(|_| remote.is_none());
        if let Some(limit) = limit {
            all.push(format!(
                "`{dir}` is only looked at every {}: {limit}",
                hetuflow_core::duration::format(poll)
            ));
        }
        let emptied = emptied.as_ref().map(|(_, text)| text);
        all.extend([instead, unreadable.as_ref(), too_many.as_ref(), emptied].into_iter().flatten().cloned());
        all
    }
}

/// Finds the directory, through links in the path that the user gave. They must not lead out of what is allowed.
pub(crate) fn locate(dir: &Path, allowed: &[PathBuf]) -> Result<(PathBuf, DirFact), String> {
    let real = fs::canonicalize(dir).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            "it does not exist".to_owned()
        } else {
            error.to_string()
        }
    })?;
    if !allowed.is_empty() && !is_allowed(&real, allowed) {
        return Err(format!(
            "it is a link to `{}`, which [files] roots in agent.toml does not allow",
            real.display()
        ));
    }
    match see(&real) {
        Seen::Directory(fact) => Ok((real, fact)),
        Seen::File(_) | Seen::Other => Err("it is not a directory".to_owned()),
        Seen::Absent => Err("it does not exist".to_owned()),
        Seen::Unknown(errno) => Err(errno.to_string()),
    }
}

/// Whether a path without links is in one of these directories, which may have links.
fn is_allowed(real: &Path, allowed: &[PathBuf]) -> bool {
    if allowed.iter().any(|root| real.starts_with(root)) {
        return true;
    }
    let mounts = Mounts::read();
    // What may not answer is asked only where the path itself is in it.
    let asked = |root: &&PathBuf| mounts.remote_point(root).is_none_or(|point| real.starts_with(point));
    let is_in = |root: &PathBuf| fs::canonicalize(root).is_ok_and(|root| real.starts_with(root));
    allowed.iter().filter(asked).any(is_in)
}

/// The device on which a directory that does not exist was looked for.
pub(crate) fn device_above(dir: &Path) -> Option<u64> {
    dir.ancestors().skip(1).find_map(|above| locate(above, &[]).ok()).map(|(_, fact)| fact.device)
}
