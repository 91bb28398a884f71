//! Looks at paths and sorts what is seen: nothing new, a candidate, a file that is gone, or a
//! file that was there before the watch.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hetuflow_core::trigger::{Initial, Symlinks};

use super::{Gone, Live, MAX_WAITING};
use crate::{
    hint::{Names, Writer},
    probe::{FileFact, Seen, Way},
    root::{Root, Walk},
    settle::{Candidate, Look, Observed, look},
    turn::Remember,
};

/// How long a file that is not there may still turn up under another name, or again.
const GRACE: Duration = Duration::from_secs(1);

impl Live {
    /// Something happened to `names` in `directory`.
    pub(crate) fn hint(&mut self, directory: &Path, names: &Names) {
        for index in 0..self.roots.len() {
            if concerns(&self.roots[index], directory, names) {
                self.roots[index].request_pass(Instant::now());
            }
            let Some(directory) = self.roots[index].in_glob(directory) else { continue };
            self.hint_links(index, &directory, names);
            if !self.enters(index, &directory) {
                self.hint_inside(&directory, names);
                self.hint_above(index, &directory, names);
                continue;
            }
            match names {
                Names::All => {
                    let root = &mut self.roots[index];
                    if root.is_emptied(&directory) {
                        root.request_pass(Instant::now());
                    }
                    root.queue.push((directory, Walk::Changed));
                }
                Names::Some(names) => {
                    for (name, writer) in names {
                        self.look_at(index, &directory.join(name), *writer);
                    }
                }
            }
        }
    }

    /// Something happened to a directory that is watched, in one that is not: only a link led to it.
    fn hint_above(&mut self, index: usize, directory: &Path, names: &Names) {
        let Names::Some(names) = names else { return };
        for path in names.keys().map(|name| directory.join(name)) {
            if self.roots[index].known.contains_key(&path) {
                self.look_at(index, &path, Writer::Busy);
            }
        }
    }

    pub(super) fn look_at(&mut self, index: usize, path: &Path, writer: Writer) {
        let seen = self.roots[index].see(path);
        if self.roots[index].is_emptied(path) && matches!(seen, Seen::File(_) | Seen::Directory(_)) {
            self.roots[index].request_pass(Instant::now());
        }
        match seen {
            // What is seen of a link to a directory is the directory: one that is gone through has no watch of its own.
            Seen::Directory(_) | Seen::Other
                if self.symlinks() == Symlinks::Follow && self.is_link(index, path) =>
            {
                self.check_link(index, path);
                self.follow(index, path, Walk::Changed);
            }
            Seen::Directory(_) if self.enters(index, path) => {
                self.roots[index].queue.push((path.to_owned(), Walk::Changed));
            }
            Seen::Absent => {
                self.check_link(index, path);
                self.lose_directory(index, path);
            }
            Seen::Directory(_) | Seen::File(_) | Seen::Other | Seen::Unknown(_) => {}
        }
        if self.covers(index, path) {
            self.sort(index, path, &seen);
            if let (Writer::Placed, Some(candidate)) = (writer, self.waiting.candidates.get_mut(path))
                && matches!(candidate.fact.way, Way::Itself | Way::Whole { .. })
            {
                candidate.place(Instant::now(), self.settle);
            }
        } else if !self.waiting.beside.is_empty() {
            self.appear(path);
        }
    }

    /// A directory is gone, and with it every file that is remembered below it.
    pub(super) fn lose_directory(&mut self, index: usize, directory: &Path) {
        let known = &mut self.roots[index].known;
        let lost: Vec<PathBuf> = known
            .range(directory.to_owned()..)
            .map(|(dir, _)| dir)
            .take_while(|dir| dir.starts_with(directory))
            .cloned()
            .collect();
        for dir in lost {
            known.remove(&dir);
        }
        for path in self.snapshot.paths_under(directory) {
            self.sort(index, &path, &Seen::Absent);
        }
    }

    /// The one place that decides what a look means.
    pub(super) fn sort(&mut self, index: usize, path: &Path, seen: &Seen) {
        if self.sort_piece(index, path, seen) || !self.note_link(index, path, seen) {
            return;
        }
        let remembered = self.snapshot.get(path);
        match look(remembered, seen) {
            Look::Same => {
                self.waiting.candidates.remove(path);
                self.waiting.gone.remove(path);
            }
            Look::Changed(fact) => {
                self.waiting.gone.remove(path);
                if self.is_old(index, path, &fact) {
                    self.record_old(index, path, fact);
                } else if remembered.is_some() || self.has_room(index) {
                    self.add_candidate(path, fact);
                }
            }
            Look::Gone => {
                self.waiting.candidates.remove(path);
                if let Some(version) = remembered {
                    self.add_gone(path, Gone { version, check_at: Instant::now() + GRACE });
                }
            }
            Look::Unknown => {}
        }
    }

    /// Whether a file was there before the watch. `ctime` is the judge: no user can set it, and a file
    /// that was moved here, or written to, after the watch began has a later one. So a
    /// baseline that a crash made us repeat does not swallow what came in the meantime. (The kernel's
    /// clock for it ticks every few milliseconds; who comes in the very tick of the start is old.)
    pub(super) fn is_old(&self, index: usize, path: &Path, fact: &FileFact) -> bool {
        let root = &self.roots[index];
        !root.record.done
            && !self.rule.is_claimed(path)
            && self.is_left(index, fact)
            && !root.pass.as_ref().is_some_and(|pass| pass.all_new)
            && fact.changed <= root.record.since
            && self.snapshot.get(path).is_none()
            && !self.was_covered(path)
    }

    /// Whether the revision before covered it. What it reached by links is not known: it may have.
    fn was_covered(&self, path: &Path) -> bool {
        let followed = self.definition.prior.as_ref().is_some_and(|one| one.symlinks == Symlinks::Follow);
        self.prior.as_ref().is_some_and(|prior| prior.covers(path) || (followed && !prior.bars(path)))
    }

    /// Whether a file that was there before is left alone.
    fn is_left(&self, index: usize, fact: &FileFact) -> bool {
        match self.definition.watch.source.initial {
            Initial::Ignore => true,
            Initial::Process => false,
            Initial::NewerThan(age) => {
                let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                fact.version.mtime < self.roots[index].record.since.saturating_sub(age)
            }
        }
    }

    pub(super) fn record_old(&mut self, index: usize, path: &Path, fact: FileFact) {
        // Without a pass there is nothing to add it to; the pass that must come finds it again.
        if let Some(pass) = &mut self.roots[index].pass {
            pass.old.push(Remember { path: path.to_owned(), version: Some(fact.told()) });
        }
    }

    /// Whether one more file may be remembered.
    pub(super) fn has_room(&mut self, index: usize) -> bool {
        let most = self.definition.watch.source.limits.files;
        let has_room = self.snapshot.len() + self.waiting.candidates.len() as u64 <= most;
        if !has_room {
            let root = &mut self.roots[index];
            root.problems().too_many = Some(format!(
                "`{}` has more than {most} files (limits.files), the rest is not seen: remove some, or raise it",
                root.dir().display()
            ));
        }
        has_room
    }

    pub(super) fn add_candidate(&mut self, path: &Path, fact: FileFact) {
        let (now, settle) = (Instant::now(), self.settle_of(path, fact.version));
        if let Some(candidate) = self.waiting.candidates.get_mut(path) {
            if candidate.observe(fact, now, settle) == Observed::Another {
                self.waiting.fresh.push(path.to_owned());
            }
        } else if self.waiting.candidates.len() < MAX_WAITING {
            self.waiting.candidates.insert(path.to_owned(), Candidate::new(fact, now, settle));
            self.waiting.fresh.push(path.to_owned());
        } else {
            self.waiting.overflowed = true;
        }
    }

    /// What one turn has found is quiet from the same moment on, so that it is complete together, and told in the order
    /// that was asked for, however long the turn took.
    pub(super) fn align(&mut self) {
        let now = Instant::now();
        for path in std::mem::take(&mut self.waiting.fresh) {
            let Some(version) = self.waiting.candidates.get(&path).map(|found| found.fact.version) else {
                continue;
            };
            let settle = self.settle_of(&path, version);
            if let Some(candidate) = self.waiting.candidates.get_mut(&path) {
                candidate.begin(now, settle);
            }
        }
    }

    fn add_gone(&mut self, path: &Path, gone: Gone) {
        if self.waiting.gone.contains_key(path) {
            return;
        }
        if self.waiting.gone.len() < MAX_WAITING {
            self.waiting.gone.insert(path.to_owned(), gone);
        } else {
            self.waiting.overflowed = true;
        }
    }

    /// Once there is room again, a pass finds what was dropped.
    pub(super) fn recover_overflow(&mut self) {
        let room = self.waiting.candidates.len().max(self.waiting.gone.len()) <= MAX_WAITING / 2;
        if self.waiting.overflowed && room {
            self.waiting.overflowed = false;
            let now = Instant::now();
            self.roots.iter_mut().for_each(|root| root.request_pass(now));
        }
    }
}

/// Whether a hint is about the root itself or a directory above it.
fn concerns(root: &Root, directory: &Path, names: &Names) -> bool {
    match names {
        Names::All => root.is_at_or_below(directory) && root.in_glob(directory).is_none(),
        Names::Some(names) => names.keys().any(|name| root.is_at_or_below(&directory.join(name))),
    }
}
