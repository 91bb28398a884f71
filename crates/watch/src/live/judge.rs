//! Decides what is reported: candidates that are complete, and files that are gone for good. Nothing
//! is decided while a pass runs, because only after it is known which of two paths is the old and
//! which the new name of one file.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hetuflow_core::{
    protocol::FileEvent,
    trigger::{FileChange, WriterCheck},
};
use rustix::{fs::OFlags, io::Errno};

use super::{Context, Gone, Live, tell::About};
use crate::{
    ground::Ground,
    lease::{self, Writer},
    probe::{FileFact, FsKind, Seen, Way},
    root::Root,
    settle::Judgement,
    tree,
    turn::{Part, Remember, Turn},
    version::Version,
};

/// A gone file whose version waits under another name is asked for again after this.
const MOVE_CHECK: Duration = Duration::from_secs(1);

/// What became of a candidate.
pub(super) enum Decided {
    NotYet,
    /// With the digest of its bytes, where that was asked for.
    Complete(Version, Option<String>),
    Leave(Version),
    Reject(Version, String),
}

impl Live {
    pub(crate) fn judge(&mut self, cx: &mut Context<'_>, turn: &mut Turn, part: &mut Part) {
        self.measure_fresh(cx);
        self.align();
        if self.is_passing() {
            return;
        }
        self.recover_overflow();
        self.withholds = !turn.has_room_of(self.key());
        if !self.batches.is_full() {
            self.call(part);
            self.judge_candidates(cx, turn, part);
            self.call(part);
            self.say_lines(cx, turn, part);
            self.judge_gone(cx, turn, part);
        }
        self.close_batches(cx, turn, part);
        self.sync_claims();
        self.withholds = !turn.has_room_of(self.key());
    }

    /// Whether one more file is to be judged in this turn. Members of a batch are told by their batch.
    fn goes_on(&self, turn: &Turn) -> bool {
        !turn.is_full() && (self.makes_batches() || turn.has_room_of(self.key()))
    }

    fn judge_candidates(&mut self, cx: &mut Context<'_>, turn: &mut Turn, part: &mut Part) {
        let now = Instant::now();
        let candidates = self.waiting.candidates.iter();
        let mut due: Vec<PathBuf> =
            candidates.filter(|(_, c)| c.test_at() <= now).map(|(path, _)| path.clone()).collect();
        self.sort_due(&mut due);
        let mut departed: HashMap<Version, PathBuf> =
            self.waiting.gone.iter().map(|(path, gone)| (gone.version, path.clone())).collect();
        for path in due {
            cx.pulse.beat();
            if !self.goes_on(turn) || self.rate.as_ref().is_some_and(|rate| !rate.has_place(now)) {
                break;
            }
            match self.judge_candidate(&path, cx) {
                Decided::NotYet => self.tell_stuck(&path, cx, turn, part),
                Decided::Complete(..) if self.waits(&path, cx, turn, part) => turn.pass_over(),
                Decided::Complete(version, sha256) => {
                    // Of a file that only has another name now there is nothing to tell.
                    let old_name = departed.get(&version).filter(|_| self.snapshot.get(&path).is_none());
                    let is_moved = old_name.is_some_and(|old_name| !self.bars_name(old_name));
                    let place = if is_moved { Some(path.clone()) } else { self.claim(&path, version, cx) };
                    let Some(path) = place else {
                        self.tell_stuck(&path, cx, turn, part);
                        continue;
                    };
                    self.rate.as_mut().into_iter().for_each(|rate| rate.take(now));
                    self.count(&path, part);
                    let (files, events) = self.report(path, version, sha256, &mut departed, cx);
                    self.add_fate(&files, &events, cx, part);
                    if let Some(file) = files.last() {
                        self.lead(&file.path, &events, part);
                    }
                    let events = self.collect(events, part);
                    turn.decide(part, files, events);
                }
                Decided::Leave(version) => {
                    turn.decide(part, vec![Remember { path, version: Some(version) }], Vec::new());
                }
                Decided::Reject(version, reason) => self.reject(path, version, reason, cx, turn, part),
            }
        }
    }

    fn judge_candidate(&mut self, path: &Path, cx: &mut Context<'_>) -> Decided {
        let (check, began) = (self.definition.watch.source.writer_check, Instant::now());
        let (before, writer, after) = match self.examine(path, check, cx) {
            Ok(examined) => examined,
            Err(seen) => {
                if let Some(index) = self.root_of(path) {
                    self.sort(index, path, &seen);
                }
                // The question was not answered; not to be asked again at once.
                self.postpone(path, "it cannot be looked at".to_owned());
                return Decided::NotYet;
            }
        };
        if writer == Writer::Unknown && check == WriterCheck::Require {
            self.postpone(path, "nobody can tell whether it is still written".to_owned());
            return Decided::NotYet;
        }
        let settle = self.settle_of(path, after.version);
        let Some(candidate) = self.waiting.candidates.get_mut(path) else { return Decided::NotYet };
        let judgement = candidate.judge(before, writer, after, Instant::now(), settle);
        if let Way::Whole { .. } = after.way {
            // A large one is not looked through all the time.
            candidate.not_before(Instant::now() + began.elapsed() * tree::SHARE);
        }
        match judgement {
            Judgement::Ready(fact) => match self.told_elsewhere(path, fact) {
                Some(decided) => decided,
                None => self.admit(path, fact, cx),
            },
            Judgement::Wait => Decided::NotYet,
        }
    }

    /// Whether a complete file is not told yet.
    fn waits(&mut self, path: &Path, cx: &Context<'_>, turn: &mut Turn, part: &mut Part) -> bool {
        self.is_held(path, cx, turn, part) || self.is_behind(path, part) || self.is_looping(path)
    }

    fn is_looping(&mut self, path: &Path) -> bool {
        let Some(rule) = self.definition.watch.source.loop_guard else { return false };
        let Some(until) = self.guard.count(&self.rule.found_at(path), rule, Instant::now()) else {
            return false;
        };
        if let Some(candidate) = self.waiting.candidates.get_mut(path) {
            candidate.wait_until(until);
        }
        true
    }

    /// What a complete version of a file means: a move, if it is the version of a file that is gone.
    fn report(
        &self,
        path: PathBuf,
        version: Version,
        sha256: Option<String>,
        departed: &mut HashMap<Version, PathBuf>,
        cx: &Context<'_>,
    ) -> (Vec<Remember>, Vec<FileEvent>) {
        let remembered = self.snapshot.get(&path);
        let from = if remembered.is_none() { departed.remove(&version) } else { None };
        let was_barred = from.as_deref().is_some_and(|from| self.bars_name(from));
        let changes: &[FileChange] = match (&from, remembered) {
            // Under its old name it was never told, and could not be.
            (Some(_), _) if was_barred => &[FileChange::Arrived, FileChange::Created],
            (Some(_), _) => &[FileChange::Moved],
            (None, Some(_)) => &[FileChange::Arrived, FileChange::Modified],
            (None, None) => &[FileChange::Arrived, FileChange::Created],
        };
        let fact = self.fact_of(&path);
        let old_path = from.as_deref().filter(|_| !was_barred);
        let about = About { version, fact, sha256, old_path, reason: None };
        let events = self.events(changes, &path, &about, cx);
        let was = self.rule.is_claimed(&path).then(|| self.rule.found_at(&path).into_owned());
        let was = was.filter(|was| self.snapshot.get(was).is_some()).or(from);
        let mut files: Vec<_> = was.map(|path| Remember { path, version: None }).into_iter().collect();
        files.push(Remember { path, version: Some(version) });
        (files, events)
    }

    fn bars_name(&self, path: &Path) -> bool {
        self.rule.gate.bars_name(path, &self.rule.captures(path))
    }

    fn judge_gone(&mut self, cx: &mut Context<'_>, turn: &mut Turn, part: &mut Part) {
        let now = Instant::now();
        let gone = self.waiting.gone.iter().filter(|(_, gone)| gone.check_at <= now);
        let mut due: Vec<(PathBuf, Gone)> = gone.map(|(path, gone)| (path.clone(), *gone)).collect();
        if due.is_empty() {
            return;
        }
        due.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.check_roots();
        let arriving: HashSet<Version> = self.waiting.candidates.values().map(|c| c.fact.told()).collect();
        let mut places = HashMap::new();
        let reported: HashSet<PathBuf> = part.files.iter().map(|file| file.path.clone()).collect();
        for (path, gone) in due.into_iter().filter(|(path, _)| !reported.contains(path)) {
            cx.pulse.beat();
            if !self.goes_on(turn) {
                break;
            }
            if arriving.contains(&gone.version) {
                let check_at = now + MOVE_CHECK;
                self.waiting.gone.insert(path, Gone { check_at, ..gone });
                continue;
            }
            if !self.is_in_place(&path, &mut places) {
                self.waiting.gone.remove(&path);
                continue;
            }
            if self.is_deleted(&path) {
                let about = About::version(gone.version);
                let events = self.events(&[FileChange::Deleted], &path, &about, cx);
                let events = self.collect(events, part);
                turn.decide(part, vec![Remember { path, version: None }], events);
            }
        }
    }

    /// A root that is not in its place any more takes its gone files with it: they are not deleted.
    fn check_roots(&mut self) {
        for root in &mut self.roots {
            if root.is_replaced() || !root.is_in_place() {
                root.request_pass(Instant::now());
                let dir = root.dir().to_owned();
                self.waiting.gone.retain(|path, _| !path.starts_with(&dir));
            }
        }
    }

    /// Whether the directory that a file was in is still on the file system that it was on: what was unmounted below a root
    /// is not deleted. Each directory is asked about once.
    fn is_in_place(&mut self, path: &Path, places: &mut HashMap<PathBuf, bool>) -> bool {
        let Some(root) = self.root_of(path).map(|index| &mut self.roots[index]) else { return true };
        let known = path.ancestors().skip(1).find_map(|dir| root.known.get_key_value(dir));
        let Some((dir, before)) = known.map(|(dir, fact)| (dir.clone(), *fact)) else { return true };
        let here = *places.entry(dir).or_insert_with_key(
            |dir| !matches!(root.see(dir), Seen::Directory(fact) if fact.device != before.device),
        );
        if !here {
            root.request_pass(Instant::now());
        }
        here
    }

    fn is_deleted(&mut self, path: &Path) -> bool {
        if !self.waiting.gone.contains_key(path) {
            return false;
        }
        match self.see(path) {
            Seen::Absent | Seen::Other => true,
            Seen::Directory(_) if !self.tells_directories() => true,
            Seen::File(_) if self.tells_directories() => true,
            seen @ (Seen::File(_) | Seen::Directory(_) | Seen::Unknown(_)) => {
                self.waiting.gone.remove(path);
                if let Some(index) = self.root_of(path) {
                    self.sort(index, path, &seen);
                }
                false
            }
        }
    }

    pub(super) fn root_of(&self, path: &Path) -> Option<usize> {
        self.roots.iter().position(|root| path.starts_with(root.dir()))
    }

    /// Where a path is looked at: in the first root that it is below and that is there.
    pub(super) fn ground(&self, path: &Path) -> Option<Arc<Ground>> {
        let mut roots = self.roots.iter().filter(|root| path.starts_with(root.dir()));
        roots.find_map(Root::ground).cloned()
    }

    /// What is at a path below a root.
    pub(super) fn see(&self, path: &Path) -> Seen {
        self.ground(path).map_or(Seen::Unknown(Errno::NOENT), |ground| ground.see(path))
    }

    /// The file before the writer test, the test, and the file after it.
    pub(super) fn examine(
        &self,
        path: &Path,
        check: WriterCheck,
        cx: &mut Context<'_>,
    ) -> Result<(FileFact, Writer, FileFact), Seen> {
        let ground = self.ground(path).ok_or(Seen::Unknown(Errno::NOENT))?;
        if self.tells_directories() {
            let (fact, writer) = self.measure(&ground, path, check, cx)?;
            return Ok((fact, writer, fact));
        }
        // Its directory is held, so that it is the same one for all three.
        let spot = match ground.spot(path) {
            Ok(spot) => spot,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Seen::Absent),
            Err(errno) => return Err(Seen::Unknown(errno)),
        };
        let look = || ground.see_at(path, &spot);
        let before = file(look())?;
        if before.way == Way::Out {
            // Whoever writes there does not matter.
            return Ok((before, Writer::None, file(look())?));
        }
        let kind = match before.way {
            Way::Itself | Way::Out | Way::Whole { .. } => cx.kinds.of(before.device, &spot.directory),
            Way::Link => match ground.behind(path, OFlags::PATH) {
                Ok(open) => cx.kinds.of_open(open),
                Err(errno) => return Err(Seen::Unknown(errno)),
            },
        };
        // Elsewhere the test means nothing, and opening a file may fetch it from far away.
        let writer = match kind {
            FsKind::Local if check != WriterCheck::Off => lease::test(ground.open_at(path, &spot)),
            FsKind::Local | FsKind::Remote | FsKind::Other => Writer::Unknown,
        };
        Ok((before, writer, file(look())?))
    }
}

fn file(seen: Seen) -> Result<FileFact, Seen> {
    match seen {
        Seen::File(fact) => Ok(fact),
        seen @ (Seen::Directory(_) | Seen::Other | Seen::Absent | Seen::Unknown(_)) => Err(seen),
    }
}
