//! Directories that are told, each as one piece with all that is in it. Nothing in them is watched: one is complete when it is
//! what it was `settle` before, and nobody has a file in it open for writing.

use std::{path::Path, time::Instant};

use hetuflow_core::trigger::WriterCheck;

use super::{Context, Live};
use crate::{
    ground::Ground,
    hint::Names,
    lease::Writer,
    probe::{FileFact, Seen, Way},
    tree::{self, Measure},
};

impl Live {
    pub(super) fn tells_directories(&self) -> bool {
        self.definition.watch.source.tells_directories()
    }

    /// Whether a directory is told as a piece, or is in one that is: then it is not walked.
    pub(super) fn is_in_piece(&self, directory: &Path) -> bool {
        self.tells_directories()
            && directory
                .ancestors()
                .take_while(|above| self.roots.iter().all(|root| root.dir() != *above))
                .any(|above| self.rule.covers(above) && !self.rule.bars(above))
    }

    /// What a look at a path means where directories are told. Yields whether that is all.
    pub(super) fn sort_piece(&mut self, index: usize, path: &Path, seen: &Seen) -> bool {
        if !self.tells_directories() {
            return false;
        }
        let Seen::Directory(directory) = seen else {
            if matches!(seen, Seen::File(_)) {
                self.sort(index, path, &Seen::Other);
            }
            return matches!(seen, Seen::File(_));
        };
        let fact = FileFact::whole(*directory);
        self.waiting.gone.remove(path);
        if self.snapshot.get(path) == Some(fact.told()) {
            self.waiting.candidates.remove(path);
        } else if self.is_old(index, path, &fact) {
            self.record_old(index, path, fact);
        } else if self.fact_of(path).is_none_or(|known| known.told() != fact.told()) && self.has_room(index) {
            self.waiting.candidates.remove(path);
            self.add_candidate(path, fact);
        }
        true
    }

    /// What is in directories that this turn has found.
    pub(super) fn measure_fresh(&mut self, cx: &mut Context<'_>) {
        if !self.tells_directories() {
            return;
        }
        for path in self.waiting.fresh.clone() {
            let Some(ground) = self.ground(&path) else { continue };
            // Who writes matters once it is quiet.
            if let Ok((fact, _)) = self.measure(&ground, &path, WriterCheck::Off, cx)
                && let Some(candidate) = self.waiting.candidates.get_mut(&path)
            {
                candidate.fact = fact;
            }
        }
    }

    pub(super) fn measure(
        &self,
        ground: &Ground,
        path: &Path,
        check: WriterCheck,
        cx: &mut Context<'_>,
    ) -> Result<(FileFact, Writer), Seen> {
        let most = tree::most(self.definition.watch.source.limits.files);
        Measure { ground, kinds: cx.kinds, pulse: cx.pulse, check }.of(path, most)
    }

    /// It waits for something in it.
    pub(super) fn watch_inside(&mut self, path: &Path, cx: &mut Context<'_>) {
        let is_whole = self.fact_of(path).is_some_and(|fact| matches!(fact.way, Way::Whole { .. }));
        if is_whole && let Some(index) = self.root_of(path) {
            self.add_watch(index, path, cx);
        }
    }

    /// Directories that are watched for what they lack.
    pub(super) fn watched_inside(&self) -> impl Iterator<Item = &Path> {
        let beside = self.waiting.beside.iter().map(|(_, path)| path.as_path());
        beside.filter(|_| self.tells_directories())
    }

    /// Something happened in a directory that is not told yet.
    pub(super) fn hint_inside(&mut self, directory: &Path, names: &Names) {
        if !self.tells_directories() || !self.waiting.candidates.contains_key(directory) {
            return;
        }
        match names {
            Names::Some(names) => names.keys().for_each(|name| self.appear(&directory.join(name))),
            Names::All => {
                if let Some(candidate) = self.waiting.candidates.get_mut(directory) {
                    candidate.hasten(Instant::now());
                }
            }
        }
    }
}
