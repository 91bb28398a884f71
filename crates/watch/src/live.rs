//! A watch in force: its compiled rule, what it remembers, and the files that wait to be complete.
//! `look` turns hints and listings into candidates, `walk` lists directories, `judge` decides what is
//! reported. A turn only proposes; [`Live::applied`] takes it over after the commit.

mod admit;
mod batch;
mod claim;
mod guard;
mod judge;
mod line;
mod links;
mod look;
mod mark;
mod order;
mod pieces;
mod rate;
mod sequence;
mod tell;
mod walk;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hetuflow_core::{
    id::AgentId,
    protocol::{WatchHealth, WatchState},
    trigger::Backend,
};
use jiff::Timestamp;

pub(crate) use self::{
    batch::Batches,
    line::{Ahead, Heads, Stands},
    mark::Began,
    sequence::{Sequences, counts_alike},
};
use self::{guard::Guard, line::Lines, mark::Mark, rate::Rate};
use crate::{
    digest::Digests,
    hint::Sources,
    probe::FsKinds,
    root::Root,
    rule::Rule,
    settle::{Candidate, Settle},
    snapshot::Snapshot,
    state::{Definition, RootRecord},
    turn::Part,
    version::Version,
    worker::Pulse,
};

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) definition: Definition,
    rule: Rule,
    /// What the revision before covered, until the baseline of this one is done.
    prior: Option<Rule>,
    settle: Settle,
    roots: Vec<Root>,
    snapshot: Snapshot,
    waiting: Waiting,
    batches: Batches,
    guard: Guard,
    rate: Option<Rate>,
    /// Why the last file that should have been claimed, moved or deleted was not.
    unfulfilled: Option<String>,
    /// Files that were refused in this life.
    rejected: u64,
    mark: Mark,
    sequences: Sequences,
    lines: Lines,
    /// Claimed files whose names may not be on the disk.
    unsynced: Vec<PathBuf>,
    /// The server takes no more of it for now.
    withholds: bool,
}

/// Files about which nothing is decided yet, by path.
#[derive(Debug, Default)]
struct Waiting {
    candidates: HashMap<PathBuf, Candidate>,
    gone: HashMap<PathBuf, Gone>,
    /// Candidates that this turn has found.
    fresh: Vec<PathBuf>,
    /// Names that are looked out for, each with a candidate that waits for it.
    beside: BTreeSet<(PathBuf, PathBuf)>,
    /// Candidates were dropped for lack of room; a pass will find them again.
    overflowed: bool,
}

/// A remembered file that was not there.
#[derive(Debug, Clone, Copy)]
struct Gone {
    version: Version,
    /// When to decide whether it was deleted or moved.
    check_at: Instant,
}

/// So many files of one watch wait in memory; the rest wait on disk.
const MAX_WAITING: usize = 65_536;

/// What is remembered of a watch over its revisions.
pub(crate) type Memory = (Snapshot, Batches, Sequences);

/// What a turn needs from outside.
pub(crate) struct Context<'a> {
    pub(crate) hints: &'a mut Sources,
    pub(crate) kinds: &'a mut FsKinds,
    pub(crate) digests: &'a mut Digests,
    pub(crate) pulse: &'a Pulse,
    pub(crate) agent: &'a AgentId,
    /// Where watches may be; empty: anywhere.
    pub(crate) allowed: &'a [PathBuf],
    pub(crate) wall: Timestamp,
    pub(crate) rescan: Duration,
    pub(crate) poll: Duration,
}

impl Live {
    pub(crate) fn new(
        definition: Definition,
        rule: Rule,
        prior: Option<Rule>,
        roots: Vec<RootRecord>,
        (snapshot, batches, sequences): Memory,
    ) -> Self {
        let now = Instant::now();
        let rate = definition.watch.source.limits.rate.map(|most| Rate::new(most, now));
        Self {
            settle: Settle::new(definition.watch.source.settle),
            roots: roots.into_iter().map(|record| Root::new(record, now)).collect(),
            definition,
            rule,
            prior,
            snapshot,
            batches,
            guard: Guard::default(),
            rate,
            unfulfilled: None,
            waiting: Waiting::default(),
            rejected: 0,
            mark: Mark::new(now),
            sequences,
            lines: Lines::default(),
            unsynced: Vec::new(),
            withholds: false,
        }
    }

    fn key(&self) -> &str {
        &self.definition.watch.key
    }

    fn makes_batches(&self) -> bool {
        self.definition.watch.source.batch.is_some()
    }

    /// Files that are told once the server takes more.
    fn withheld(&self) -> usize {
        if !self.withholds {
            return 0;
        }
        let now = Instant::now();
        let due = self.waiting.candidates.values().filter(|candidate| candidate.test_at() <= now).count();
        due + self.batches.len()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &RootRecord> {
        self.roots.iter().map(|root| &root.record)
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What a later revision takes over.
    pub(crate) fn into_memory(self) -> Memory {
        (self.snapshot, self.batches, self.sequences)
    }

    /// Every directory that the system watches for it.
    pub(crate) fn watched(&self) -> impl Iterator<Item = PathBuf> {
        self.roots.iter().flat_map(|root| {
            let dirs = root.known.keys().map(PathBuf::as_path).chain(root.links.heeded());
            dirs.chain(self.watched_inside()).filter_map(|dir| root.in_system(dir))
        })
    }

    /// Whoever needs events is concerned when some were lost.
    pub(crate) fn needs_events(&self) -> bool {
        self.definition.watch.source.backend != Backend::Poll
    }

    /// The turn is committed: what it decided is true now.
    pub(crate) fn applied(&mut self, part: Part) {
        for file in part.files {
            self.waiting.gone.remove(&file.path);
            match file.version {
                Some(version) => {
                    self.snapshot.insert(&file.path, version);
                    if self.waiting.candidates.get(&file.path).is_some_and(|c| c.fact.told() == version) {
                        self.waiting.candidates.remove(&file.path);
                    }
                }
                None => self.snapshot.remove(&file.path),
            }
        }
        self.rejected += part.rejected;
        self.sequences.applied(part.sequences);
        self.lines.applied(part.lines);
        let now = Instant::now();
        part.members.into_iter().for_each(|member| self.batches.add(member, now));
        part.closed.iter().for_each(|closed| self.batches.close(closed));
        for record in part.roots {
            if let Some(root) = self.roots.iter_mut().find(|root| root.record.dir == record.dir) {
                root.record = record;
            }
        }
        if part.baseline_done {
            self.prior = None;
            self.definition.prior = None;
        }
    }

    /// A turn was not committed: who is stuck was not told.
    pub(crate) fn forget_stuck(&mut self) {
        self.waiting.candidates.values_mut().for_each(|candidate| candidate.stuck = false);
        self.lines.forget_said();
    }

    /// The turn was not committed: nothing of it is true, and passes are repeated that ended in it, or of which it may have
    /// recorded old files.
    pub(crate) fn failed(&mut self, part: &Part, retry_at: Instant) {
        for root in &mut self.roots {
            let is_recorded = part.roots.iter().any(|record| record.dir == root.record.dir);
            if is_recorded || !root.record.done {
                root.repeat_pass(retry_at);
            }
        }
    }

    /// When it next needs a turn. While the outbox is full, only an acknowledgement lets files be decided.
    pub(crate) fn wake_at(&self, now: Instant, outbox: Outbox) -> Option<Instant> {
        self.decide_at(now, outbox).into_iter().chain(self.mark_at()).min()
    }

    fn decide_at(&self, now: Instant, outbox: Outbox) -> Option<Instant> {
        let passes = self.roots.iter().map(|root| root.wake_at(now)).min();
        if self.is_passing() || outbox == Outbox::Full {
            return passes;
        }
        let candidates = self.waiting.candidates.values().map(Candidate::test_at).min();
        // Who waits for a place in the rate is due all the time.
        let place = self.rate.as_ref().map(Rate::next_at);
        let candidates = candidates.map(|at| place.map_or(at, |place| at.max(place)));
        let gone = self.waiting.gone.values().map(|gone| gone.check_at).min();
        let batches = (outbox == Outbox::HasRoom && !self.withholds)
            .then(|| self.batches.wake_at(&self.batch_rule(), now, |group| !self.lines.has_head(group)))
            .flatten();
        let lines = self.line_at(now, outbox);
        if self.batches.is_full() || (self.withholds && !self.makes_batches()) {
            return [passes, batches, lines].into_iter().flatten().min();
        }
        [passes, candidates, gone, batches, lines].into_iter().flatten().min()
    }

    fn is_passing(&self) -> bool {
        self.roots.iter().any(|root| root.pass.is_some())
    }

    /// To the minute, so that it is no news all the time.
    fn last_scan(&self) -> Option<Timestamp> {
        let scans = self.roots.iter().map(|root| root.last_pass).min().flatten();
        scans.and_then(|at| Timestamp::from_second(at.as_second().div_euclid(60) * 60).ok())
    }

    fn health(&self) -> WatchHealth {
        let full = if self.withholds { WatchHealth::Full } else { WatchHealth::Live };
        self.roots.iter().map(Root::health).max().unwrap_or_default().max(full)
    }

    pub(crate) fn state(&self, poll: Duration) -> WatchState {
        let looping = self.guard.describe(self.definition.watch.source.loop_guard, Instant::now());
        let roots = self.roots.iter().flat_map(|root| root.describe(poll));
        let lines = self.lines.describe();
        let problems: Vec<String> =
            roots.chain(looping).chain(lines).chain(self.unfulfilled.clone()).collect();
        let count =
            |is: fn(&Candidate) -> bool| self.waiting.candidates.values().filter(|one| is(one)).count();
        let behind = count(|candidate| candidate.held_since.is_some()) as u64;
        WatchState {
            key: self.definition.watch.key.clone(),
            revision: self.definition.watch.revision,
            baseline_done: self.roots.iter().all(Root::is_recorded),
            health: self.health(),
            tracked: self.snapshot.len(),
            settling: self.waiting.candidates.len() as u64,
            stuck: count(|candidate| candidate.stuck) as u64,
            hashing: count(|candidate| candidate.hashing) as u64,
            behind,
            withheld: self.withheld() as u64,
            ahead: self.lines.ahead().filter(|_| behind > 0),
            rejected: self.rejected,
            last_scan: self.last_scan(),
            watermark: self.mark.at(),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outbox {
    HasRoom,
    /// For single events, and for no batch.
    Crowded,
    Full,
}

impl Waiting {
    /// What happens to `beside` concerns the candidate at `path`. Without this it is looked at now and then.
    fn look_out(&mut self, beside: PathBuf, path: &Path) {
        if self.beside.len() >= MAX_WAITING {
            self.beside.clear();
        }
        self.beside.insert((beside, path.to_owned()));
    }

    fn forget_below(&mut self, dir: &Path) {
        self.candidates.retain(|path, _| !path.starts_with(dir));
        self.gone.retain(|path, _| !path.starts_with(dir));
        self.beside.retain(|(_, path)| !path.starts_with(dir));
    }
}
