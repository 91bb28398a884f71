//! All watches of a patrol that are in force, and one turn of the work on them: take the hints, walk, judge. A turn runs on a
//! thread where it may block, writes nothing, and returns what is to be committed. `run` calls it.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use hetuflow_core::protocol::{WatchHealth, WatchState};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    Options,
    digest::Digests,
    fate::Fulfilled,
    hint::Sources,
    live::{Began, Context, Heads, Live, Outbox},
    mounts::Mounts,
    noise::Noise,
    probe::FsKinds,
    since::Since,
    state::StoredFate,
    turn::{Part, Rooms, Turn},
    worker::Pulse,
};

mod admit;
mod overflow;

use overflow::Overflow;

pub(crate) struct Engine {
    options: Options,
    /// By slot.
    lives: BTreeMap<String, Live>,
    /// Watches that could not be set, with the reason.
    refused: BTreeMap<String, WatchState>,
    hints: Sources,
    kinds: FsKinds,
    digests: Digests,
    noise: Noise,
    overflow: Overflow,
    /// How many names the hints of the last turn had.
    hinted: usize,
    since: Since,
    pulse: Arc<Pulse>,
    mounts: Mounts,
    /// The last turn.
    began: Option<Began>,
}

/// Directories listed in one turn, so that what was found is soon committed and a stop need not wait.
const TURN_DIRECTORIES: usize = 256;

impl Engine {
    pub(crate) fn new(
        options: Options,
        hints: Sources,
        since: Since,
        pulse: Arc<Pulse>,
    ) -> Result<Self, globset::Error> {
        Ok(Self {
            options,
            lives: BTreeMap::new(),
            refused: BTreeMap::new(),
            hints,
            kinds: FsKinds::default(),
            digests: Digests::default(),
            noise: Noise::new()?,
            overflow: Overflow::new(Instant::now()),
            hinted: 0,
            since,
            pulse,
            mounts: Mounts::read(),
            began: None,
        })
    }

    /// The table of mounts has changed: a root in which, or over which, it did so is looked at again.
    pub(crate) fn mounted(&mut self) {
        let mounts = Mounts::read();
        let points = mounts.since(&self.mounts);
        self.lives.values_mut().for_each(|live| live.mounted(&points));
        self.mounts = mounts;
    }

    /// Whether it is in force or refused.
    pub(crate) fn knows(&self, slot: &str) -> bool {
        self.lives.contains_key(slot) || self.refused.contains_key(slot)
    }

    /// Of the watches in force.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.lives.keys().cloned().collect()
    }

    /// Of those with a strict order.
    pub(crate) fn slots_with_lines(&self) -> Vec<String> {
        let strict = self.lives.iter().filter(|(_, live)| live.has_lines());
        strict.map(|(slot, _)| slot.clone()).collect()
    }

    /// Who is ahead in the lines of these watches.
    pub(crate) fn take_heads(&mut self, slots: &[String], mut heads: BTreeMap<String, Heads>) {
        for slot in slots {
            if let Some(live) = self.lives.get_mut(slot) {
                live.take_heads(heads.remove(slot).unwrap_or_default());
            }
        }
    }

    /// One turn. `room` is what fits into the outbox, `rooms` what the server takes.
    pub(crate) fn turn(&mut self, room: usize, rooms: Rooms) -> Turn {
        self.began = Some(Began { wall: self.options.clock.now(), at: Instant::now() });
        self.take_hints();
        self.keep_since();
        for found in self.digests.found() {
            self.lives.values_mut().for_each(|live| live.hashed(&found));
        }
        let mut turn = Turn::new(room, rooms);
        let mut budget = TURN_DIRECTORIES;
        let mut cx = Context {
            hints: &mut self.hints,
            kinds: &mut self.kinds,
            digests: &mut self.digests,
            pulse: &self.pulse,
            agent: &self.options.agent_id,
            allowed: &self.options.roots,
            wall: self.options.clock.now(),
            rescan: self.options.rescan,
            poll: self.options.poll,
        };
        for (slot, live) in &mut self.lives {
            let mut part = Part { slot: slot.clone(), ..Part::default() };
            live.walk(&mut cx, &mut part, &mut budget);
            live.judge(&mut cx, &mut turn, &mut part);
            turn.push(part);
        }
        turn
    }

    /// Before anything is told of a watch that is new.
    fn keep_since(&mut self) {
        if let Err(error) = self.since.keep(self.lives.values()) {
            tracing::warn!(%error, "when watches began cannot be kept: a lost state file would make them new");
        }
    }

    fn take_hints(&mut self) {
        let hints = self.hints.drain();
        self.hinted = hints.len();
        if let Some(lost) = hints.lost {
            let at = self.overflow.answer(lost, Instant::now());
            tracing::warn!(?lost, "hints were lost: every watched directory is looked at again");
            self.lives.values_mut().for_each(|live| live.request_passes(at));
        }
        for (directory, names) in &hints.directories {
            self.lives.values_mut().for_each(|live| live.hint(directory, names));
        }
    }

    /// Moves and deletes what has its verdict. Yields those that are gone by it. Blocks.
    pub(crate) fn fulfil(&mut self, fates: &[StoredFate]) -> Vec<StoredFate> {
        let wall = self.options.clock.now();
        let gone = fates.iter().filter(|one| {
            self.pulse.beat();
            let live = self.lives.get_mut(&one.slot);
            live.is_some_and(|live| live.fulfil(&one.fate, wall) == Fulfilled::Gone)
        });
        gone.cloned().collect()
    }

    pub(crate) fn applied(&mut self, turn: Turn) {
        for part in turn.parts {
            if let Some(live) = self.lives.get_mut(&part.slot) {
                live.applied(part);
            }
        }
    }

    /// Whether some watermark is to be taken.
    pub(crate) fn is_mark_due(&self) -> bool {
        let began = self.began.map(|began| began.at);
        self.lives.values().any(|live| live.mark_at().is_some_and(|at| Some(at) <= began))
    }

    /// What the last turn decided is committed. `told_since` says by key when the first event was seen that is not
    /// acknowledged.
    pub(crate) fn take_marks(&mut self, told_since: &BTreeMap<String, Timestamp>) {
        let Some(began) = self.began else { return };
        for live in self.lives.values_mut() {
            let told_since = told_since.get(&live.definition.watch.key).copied();
            live.take_mark(began, told_since);
        }
    }

    pub(crate) fn failed(&mut self, turn: &Turn, retry_at: Instant) {
        self.lives.values_mut().for_each(Live::forget_stuck);
        for part in &turn.parts {
            if let Some(live) = self.lives.get_mut(&part.slot) {
                live.failed(part, retry_at);
            }
        }
    }

    pub(crate) fn wake_at(&self, now: Instant, outbox: Outbox) -> Option<Instant> {
        let lives = self.lives.values().filter_map(|live| live.wake_at(now, outbox));
        lives.chain(self.overflow.shown_until(now)).min()
    }

    /// Told when a digest is known that somebody waits for.
    pub(crate) fn digested(&self) -> Arc<Notify> {
        self.digests.finished()
    }

    pub(crate) const fn hinted(&self) -> usize {
        self.hinted
    }

    /// One state per key: a trigger with several file sources is one to the server.
    pub(crate) fn states(&self) -> Vec<WatchState> {
        let mut states: BTreeMap<String, WatchState> = BTreeMap::new();
        let lives = self.lives.iter().filter(|(slot, _)| !self.refused.contains_key(*slot));
        let overflow = self.overflow.describe(Instant::now());
        let lives = lives.map(|(_, live)| {
            let state = live.state(self.options.poll);
            told_of(state, overflow.as_ref().filter(|_| live.needs_events()))
        });
        let all = lives.chain(self.refused.values().cloned());
        for state in all {
            match states.get_mut(&state.key) {
                Some(first) => merge(first, state),
                None => {
                    states.insert(state.key.clone(), state);
                }
            }
        }
        states.into_values().collect()
    }

    /// Directories that no watch needs any more.
    fn release(&mut self, before: &HashSet<PathBuf>) {
        let needed: HashSet<PathBuf> = self.lives.values().flat_map(Live::watched).collect();
        self.hints.remove_dirs(&before.difference(&needed).map(PathBuf::as_path).collect());
    }
}

fn told_of(mut state: WatchState, overflow: Option<&String>) -> WatchState {
    let Some(overflow) = overflow else { return state };
    state.health = state.health.max(WatchHealth::Overflowing);
    state.problem = Some(state.problem.map_or_else(|| overflow.clone(), |one| format!("{one}; {overflow}")));
    state
}

/// What is said of two watches that are one to the server.
pub(crate) fn merge(first: &mut WatchState, other: WatchState) {
    first.baseline_done &= other.baseline_done;
    first.health = first.health.max(other.health);
    first.tracked += other.tracked;
    first.settling += other.settling;
    first.stuck += other.stuck;
    first.hashing += other.hashing;
    first.behind += other.behind;
    first.withheld += other.withheld;
    first.ahead = first.ahead.or(other.ahead);
    first.rejected += other.rejected;
    first.last_scan = first.last_scan.min(other.last_scan);
    first.watermark = first.watermark.min(other.watermark);
    first.problem = match (first.problem.take(), other.problem) {
        (Some(one), Some(two)) => Some(format!("{one}; {two}")),
        (one, two) => one.or(two),
    };
}
