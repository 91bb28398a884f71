//! What links lead to, while a watch goes through them: which directories are walked for their sake, which files are looked
//! at again when what a link leads to changes, and which of several ways to one file is the one under which it is told.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Instant,
};

use hetuflow_core::{path_text, trigger::Symlinks};

use super::{Context, Live, judge::Decided};
use crate::{
    gate::LEADS_OUT,
    hint::{Names, Writer},
    links::Lead,
    probe::{FileFact, Seen, Way},
    root::{Root, Walk},
    turn::{Part, Remember},
};

impl Live {
    /// Whether a file of this path is watched for, under whichever name.
    pub(super) fn covers(&self, index: usize, path: &Path) -> bool {
        self.roots[index].links.covers(&self.rule, path)
            && !(self.tells_directories() && self.rule.bars(path))
    }

    pub(super) fn enters(&self, index: usize, directory: &Path) -> bool {
        self.roots[index].links.enters(&self.rule, directory) && !self.is_in_piece(directory)
    }

    pub(super) const fn symlinks(&self) -> Symlinks {
        self.definition.watch.source.symlinks
    }

    /// Something that may be a link to a directory: that is walked too, under its own path.
    pub(super) fn follow(&mut self, index: usize, link: &Path, walk: Walk) {
        if self.symlinks() != Symlinks::Follow {
            return;
        }
        let root = &mut self.roots[index];
        let Some(ground) = root.ground().cloned() else { return };
        match root.links.lead(&self.rule, &ground, link) {
            Lead::Nowhere => {}
            Lead::Out => tracing::warn!(link = %path_text::show(link), "{LEADS_OUT}"),
            Lead::Known(target) => self.queue(index, target, walk),
            Lead::New(target) => {
                tracing::info!(link = %path_text::show(link), target = %path_text::show(&target), "a link is followed");
                root.unlist(&target);
                self.queue(index, target, Walk::All);
            }
            Lead::Gone(target) => self.lose_directory(index, &target),
        }
    }

    /// A directory that was reached by a link is to be listed.
    fn queue(&mut self, index: usize, directory: PathBuf, walk: Walk) {
        let root = &self.roots[index];
        let one_filesystem = self.definition.watch.source.one_filesystem;
        if one_filesystem && !root.is_on_device_of(&directory) {
            return;
        }
        let known = root.known.get(&directory);
        let is_as_before = |fact| root.see(&directory) == Seen::Directory(fact);
        if walk == Walk::Changed && known.copied().is_some_and(is_as_before) {
            return;
        }
        if known.is_some() || self.has_place(index) {
            self.roots[index].queue.push((directory, walk));
        }
    }

    /// Keeps in mind whether what is at a path is a link to a file. Whether it may be taken.
    pub(super) fn note_link(&mut self, index: usize, path: &Path, seen: &Seen) -> bool {
        if self.symlinks() == Symlinks::Ignore {
            return true;
        }
        let root = &mut self.roots[index];
        if !matches!(seen, Seen::File(FileFact { way: Way::Link, .. })) {
            if !matches!(seen, Seen::Unknown(_)) {
                root.links.lose_file(path);
            }
            return true;
        }
        let Some(Ok(target)) = root.ground().map(|ground| ground.path_behind(path)) else { return false };
        root.links.lead_to_file(path, target)
    }

    /// Looks out for what changes where links lead to, and once at each of them after that.
    pub(super) fn heed(&mut self, index: usize, cx: &mut Context<'_>) {
        for link in self.roots[index].links.take_unheeded() {
            let root = &self.roots[index];
            let folder = root.links.target(&link).and_then(Path::parent).map(Path::to_owned);
            if let Some(folder) = folder.filter(|folder| !root.known.contains_key(folder)) {
                self.add_watch(index, &folder, cx);
            }
            let seen = self.roots[index].see(&link);
            self.sort(index, &link, &seen);
        }
    }

    /// Something happened in a directory that links may lead into.
    pub(super) fn hint_links(&mut self, index: usize, directory: &Path, names: &Names) {
        let look = |live: &mut Self, name: Option<&OsStr>| {
            for link in live.roots[index].links.leading_into(directory, name) {
                live.look_at(index, &link, Writer::Busy);
            }
        };
        match names {
            Names::All => look(self, None),
            Names::Some(names) => names.keys().for_each(|name| look(self, Some(name))),
        }
    }

    /// Where a link leads to a file that is told under another path: its own, if globs cover that, else the link to it that
    /// has told this version, or the first by name. `None`: this is the one.
    pub(super) fn told_elsewhere(&mut self, path: &Path, fact: FileFact) -> Option<Decided> {
        if fact.way != Way::Link {
            return None;
        }
        let index = self.root_of(path)?;
        let links = &self.roots[index].links;
        let target = links.target(path)?;
        let has_told = |other: &&Path| self.snapshot.get(other) == Some(fact.version);
        let other = if self.covers(index, target) {
            Some(target)
        } else {
            let others = || links.to(target).filter(|other| *other != path && self.covers(index, other));
            others().find(has_told).or_else(|| others().find(|other| *other < path))
        }?;
        if has_told(&other) {
            return Some(Decided::Leave(fact.version));
        }
        let why = format!("it leads to the same file as `{}`, which is told first", path_text::show(other));
        self.postpone(path, why);
        Some(Decided::NotYet)
    }

    /// Links were lost: what was reached by them alone is watched no more, and nobody has deleted it.
    pub(super) fn forget_unreached(&mut self, index: usize, part: &mut Part) {
        let root = &mut self.roots[index];
        // Where a directory could not be read, the links in it may still be there.
        if self.definition.watch.source.symlinks != Symlinks::Follow || root.is_unreadable() {
            return;
        }
        if !root.links.end_pass() {
            return;
        }
        let (rule, links) = (&self.rule, &root.links);
        root.known.retain(|directory, _| links.enters(rule, directory));
        let dir = root.dir().to_owned();
        let mut unreached = self.snapshot.paths_under(&dir);
        unreached.retain(|path| !self.covers(index, path));
        for path in unreached {
            self.waiting.gone.remove(&path);
            part.files.push(Remember { path, version: None });
        }
        let mut candidates = std::mem::take(&mut self.waiting.candidates);
        candidates.retain(|path, _| !path.starts_with(&dir) || self.covers(index, path));
        self.waiting.candidates = candidates;
    }

    pub(super) fn is_link(&self, index: usize, path: &Path) -> bool {
        self.roots[index].ground().is_some_and(|ground| ground.is_link(path))
    }

    /// A link to a directory that is gone, or leads elsewhere: the names of what is behind it are found out anew.
    pub(super) fn check_link(&mut self, index: usize, path: &Path) {
        if self.roots[index].links.directory(path).is_some() {
            self.roots[index].request_pass(Instant::now());
        }
    }
}

impl Root {
    /// Not all directories were read in the pass that is under way.
    fn is_unreadable(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.problems.unreadable.is_some())
    }
}
