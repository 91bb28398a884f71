//! Walks directories, always in this order: add the watch, then list, then look at each file. What is
//! made before the watch is in the listing, what is made after it is a hint, so nothing falls between.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use hetuflow_core::{
    path_text,
    trigger::{Backend, Symlinks},
};
use rustix::io::Errno;

use super::{Context, Live};
use crate::{
    hint::{AddError, Added},
    listing::Listing,
    probe::{DirFact, FsKind, Seen, see_open},
    root::{Pauses, Remote, Root, Walk, device_above, locate},
    turn::{Part, Remember},
};

/// So many old files are recorded in one turn (and the rest of the last directory), so that they need little memory.
const TURN_OLD: usize = 4096;

impl Live {
    pub(crate) fn request_passes(&mut self, at: Instant) {
        self.roots.iter_mut().for_each(|root| root.request_pass(at));
    }

    pub(crate) fn mounted(&mut self, points: &[PathBuf]) {
        let now = Instant::now();
        let concerned = |root: &&mut Root| {
            points.iter().any(|point| root.is_at_or_below(point) || root.in_glob(point).is_some())
        };
        self.roots.iter_mut().filter(concerned).for_each(|root| root.request_pass(now));
    }

    /// Begins passes that are due, lists up to `budget` directories, and ends passes that are through.
    pub(crate) fn walk(&mut self, cx: &mut Context<'_>, part: &mut Part, budget: &mut usize) {
        for index in 0..self.roots.len() {
            if self.roots[index].wants_pass(Instant::now()) {
                self.begin_pass(index, cx, part);
            }
            self.heed(index, cx);
            while *budget > 0
                && self.roots[index].old_found() < TURN_OLD
                && let Some((directory, walk)) = self.roots[index].queue.pop()
            {
                *budget -= 1;
                cx.pulse.beat();
                self.list(index, &directory, walk, cx, part);
            }
            self.roots[index].hand_over_old(part);
            if self.roots[index].queue.is_empty() && self.roots[index].pass.is_some() {
                self.adopt(index, cx, part);
                self.forget_unreached(index, part);
                self.end_pass(index, cx, part);
            }
        }
    }

    fn begin_pass(&mut self, index: usize, cx: &Context<'_>, part: &mut Part) {
        let root = &mut self.roots[index];
        match locate(root.dir(), cx.allowed) {
            Ok((real, fact)) => {
                root.begin_pass(&real, fact, self.definition.watch.source.symlinks, Instant::now());
            }
            Err(reason) => {
                root.lose(reason, Instant::now());
                if !root.is_recorded() {
                    let absent_device = Some(device_above(root.dir()).unwrap_or_default());
                    part.roots.push(crate::state::RootRecord { absent_device, ..root.record.clone() });
                }
                let dir = root.dir().to_owned();
                self.waiting.forget_below(&dir);
            }
        }
    }

    /// From now on the system tells what happens in a directory, unless that is found out by looking.
    pub(super) fn add_watch(&mut self, index: usize, directory: &Path, cx: &mut Context<'_>) {
        let backend = self.definition.watch.source.backend;
        if backend != Backend::Poll {
            self.roots[index].add_watch(directory, backend, cx);
        }
    }

    fn list(&mut self, index: usize, directory: &Path, walk: Walk, cx: &mut Context<'_>, part: &mut Part) {
        self.add_watch(index, directory, cx);
        let root = &mut self.roots[index];
        let symlinks = self.definition.watch.source.symlinks;
        if symlinks == Symlinks::Follow && !root.is_unlisted(directory) {
            return;
        }
        let Some(ground) = root.ground().cloned() else { return };
        let opened = match ground.directory(directory) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return self.lose_directory(index, directory),
            // A link in the place of a directory that was, or a file: what was in it is out of reach, not deleted.
            Err(_) => return,
        };
        let Seen::Directory(fact) = see_open(&opened) else { return };
        if cx.kinds.of(fact.device, &opened) == FsKind::Remote {
            root.problems().remote = Some(Remote);
        }
        let listing = match Listing::read(opened) {
            Ok(listing) => listing,
            Err(error) => return root.note_unreadable(directory, &error),
        };
        if let (Some(pass), true) = (&mut root.pass, directory == root.record.dir) {
            pass.occupied = !listing.is_empty();
        }
        let before = root.known.insert(directory.to_owned(), fact);
        for name in &listing.directories {
            cx.pulse.beat();
            let path = directory.join(name);
            if self.tells_directories() && self.covers(index, &path) {
                self.sort(index, &path, &listing.see(name));
            }
            self.enter(index, path, walk, &listing);
        }
        for name in &listing.others {
            cx.pulse.beat();
            let path = directory.join(name);
            let is_link = symlinks != Symlinks::Ignore && listing.may_be_link(name);
            if is_link {
                self.follow(index, &path, walk);
            }
            if self.covers(index, &path) {
                let seen = if is_link { ground.see(&path) } else { listing.see(name) };
                self.sort(index, &path, &seen);
            } else if !self.waiting.beside.is_empty() {
                self.appear(&path);
            }
        }
        match before {
            Some(before) if before.device != fact.device => {
                self.remounted(index, directory, before, &listing, part);
            }
            _ => self.miss(index, directory, &listing, cx),
        }
    }

    /// `listing` is of the directory that it is in.
    fn enter(&mut self, index: usize, directory: PathBuf, walk: Walk, listing: &Listing) {
        if !self.enters(index, &directory) {
            return;
        }
        let root = &self.roots[index];
        if self.definition.watch.source.one_filesystem && !root.is_on_device_of(&directory) {
            return;
        }
        let known = root.known.get(&directory);
        let is_as_before =
            |fact| listing.see(directory.file_name().unwrap_or_default()) == Seen::Directory(fact);
        if walk == Walk::Changed && known.copied().is_some_and(is_as_before) {
            return;
        }
        if known.is_some() || self.has_place(index) {
            self.roots[index].queue.push((directory, walk));
        }
    }

    /// Whether one more directory may be walked.
    pub(super) fn has_place(&mut self, index: usize) -> bool {
        let most = self.definition.watch.source.limits.directories;
        let root = &mut self.roots[index];
        if root.known.len() + root.queue.len() < most as usize {
            return true;
        }
        root.problems().too_many = Some(format!(
            "`{}` has more than {most} directories (limits.directories), the rest is not watched: narrow the glob or exclude some",
            root.dir().display()
        ));
        false
    }

    /// Looks at what is remembered and was not in the listing.
    fn miss(&mut self, index: usize, directory: &Path, listing: &Listing, cx: &Context<'_>) {
        let whole = self.tells_directories();
        let missing: Vec<PathBuf> = self
            .snapshot
            .names_in(directory)
            .filter(|name| !listing.others.contains(*name))
            .filter(|name| !whole || !listing.directories.contains(*name))
            .map(|name| directory.join(name))
            .collect();
        for path in missing {
            cx.pulse.beat();
            let seen = listing.see(path.file_name().unwrap_or_default());
            self.sort(index, &path, &seen);
        }
        let known = self.roots[index].known.range(directory.to_owned()..).map(|(dir, _)| dir.as_path());
        let below = known
            .take_while(|dir| dir.starts_with(directory))
            .chain(self.snapshot.directories_under(directory));
        let lost: HashSet<PathBuf> = below
            .filter_map(|dir| dir.strip_prefix(directory).ok()?.components().next())
            .filter(|child| !listing.directories.contains(child.as_os_str()))
            .map(|child| directory.join(child))
            .collect();
        for child in lost {
            if listing.see(child.file_name().unwrap_or_default()) == Seen::Absent {
                self.lose_directory(index, &child);
            }
        }
    }

    /// Something was mounted or unmounted below the root: the same as [`Live::replace`] for a part of it.
    fn remounted(
        &mut self,
        index: usize,
        directory: &Path,
        before: DirFact,
        listing: &Listing,
        part: &mut Part,
    ) {
        let root = &mut self.roots[index];
        let kept = self.snapshot.paths_under(directory);
        if listing.is_empty() && !kept.is_empty() {
            root.known.insert(directory.to_owned(), before);
            let text = format!(
                "`{}` is on another file system than before and empty, {} files are remembered: is it mounted?",
                path_text::show(directory),
                kept.len()
            );
            root.problems().emptied = Some((directory.to_owned(), text));
            return;
        }
        let root = &self.roots[index];
        let away: Vec<_> = kept.into_iter().filter(|path| root.see(path) == Seen::Absent).collect();
        for path in away {
            self.waiting.gone.remove(&path);
            part.files.push(Remember { path, version: None });
        }
    }

    fn end_pass(&mut self, index: usize, cx: &Context<'_>, part: &mut Part) {
        let root = &mut self.roots[index];
        root.last_pass = Some(cx.wall);
        let source = &self.definition.watch.source;
        let pauses = Pauses {
            rescan: source.rescan.unwrap_or(cx.rescan),
            poll: source.poll.unwrap_or(cx.poll),
            backend: source.backend,
        };
        let Some(pass) = root.end_pass(Instant::now(), pauses) else { return };
        let mut record = root.record.clone();
        if !root.is_replaced() || self.replace(index, pass.occupied, part) {
            record.identity = self.roots[index].identity();
        }
        let root = &self.roots[index];
        record.done = true;
        if record != root.record {
            part.baseline_done =
                self.roots.iter().all(|root| root.record.done || root.record.dir == record.dir);
            part.roots.push(record);
        }
    }

    /// Another directory is in the root's place. Files that it lacks were not deleted by anyone. While
    /// it is empty it may be the place of a mount that is missing, and they are kept in mind;
    /// once it is in use, they are forgotten. Whether the root is the new directory from now on.
    fn replace(&mut self, index: usize, occupied: bool, part: &mut Part) -> bool {
        let root = &mut self.roots[index];
        let dir = root.dir().to_owned();
        let kept = self.snapshot.paths_under(&dir).len();
        if occupied || kept == 0 {
            let absent = self.waiting.gone.keys().filter(|path| path.starts_with(&dir)).cloned();
            part.files.extend(absent.map(|path| Remember { path, version: None }));
            return true;
        }
        let text = format!(
            "`{}` is another directory than before and empty, {kept} files are remembered: is it mounted?",
            dir.display()
        );
        root.problems().emptied = Some((dir.clone(), text));
        self.waiting.gone.retain(|path, _| !path.starts_with(&dir));
        false
    }
}

impl Root {
    fn add_watch(&mut self, directory: &Path, backend: Backend, cx: &mut Context<'_>) {
        let Some(real) = self.in_system(directory) else { return };
        let Added { instead, result } = cx.hints.add_dir(&real, backend);
        if let Some(reason) = instead {
            self.problems().instead =
                Some(format!("`{}` is watched without fanotify: {reason}", path_text::show(directory)));
        }
        match result {
            Ok(()) | Err(AddError::Unreachable) => {}
            Err(error @ AddError::Limit(_)) => self.problems().limit = Some(error.to_string()),
            Err(error @ AddError::Other(_)) => {
                self.problems().limit =
                    Some(format!("`{}` sends no events: {error}", path_text::show(directory)));
            }
        }
    }

    fn note_unreadable(&mut self, directory: &Path, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.problems().unreadable = Some(format!(
                "`{}` cannot be listed: {error}; let the agent's user read it, or exclude it",
                path_text::show(directory)
            ));
        }
    }
}
