//! Claims files: a complete one is renamed to a name of ours, and told from there. The rename alone says that it is claimed;
//! what is remembered says that it was told. So whatever a crash undoes, a claimed file of which nothing is remembered is
//! told, under the id that it has by where it was found.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
    time::Instant,
};

use hetuflow_core::path_text;
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use rustix::io::Errno;

use super::{Context, Live};
use crate::{
    beneath::Beneath,
    claim::FOLDER,
    lease::Writer,
    listing::Listing,
    probe::{FileFact, Seen},
    settle::{Candidate, Settle},
    turn::{Part, Remember},
    version::Version,
};

impl Live {
    /// Under which name a complete file is told; `None`: not now.
    pub(super) fn claim(&mut self, path: &Path, version: Version, cx: &mut Context<'_>) -> Option<PathBuf> {
        let Some(claims) = self.rule.claims() else { return Some(path.to_owned()) };
        if self.rule.is_claimed(path) {
            // Who renamed it may have died before it was on the disk.
            self.unsynced.push(path.to_owned());
            return Some(path.to_owned());
        }
        let start = self.rule.root_of(path)?.to_owned();
        let found = path.strip_prefix(&start).ok()?.to_owned();
        let place = claims.place(&found, version);
        failpoint!("claim.before");
        let claimed = Beneath::open(&start).and_then(|below| below.claim(&found, &place, version));
        failpoint!("claim.after");
        if let Err(error) = claimed {
            self.refuse_claim(path, &error);
            return None;
        }
        self.unfulfilled = None;
        let place = start.join(place);
        let candidate = self.waiting.candidates.remove(path);
        self.waiting.gone.remove(path);
        self.unsynced.push(place.clone());
        // Whoever opened it, or replaced it, between our last look and the rename, is not finished.
        let check = self.definition.watch.source.writer_check;
        match self.examine(&place, check, cx) {
            Ok((before, writer, after)) if writer != Writer::Open && is(version, before, after) => {
                // Until the turn is committed: then it is told again from where it is.
                self.waiting.candidates.extend(candidate.map(|candidate| (place.clone(), candidate)));
                Some(place)
            }
            Ok((.., after)) => {
                self.give_back(&place, after);
                None
            }
            Err(_) => None,
        }
    }

    fn refuse_claim(&mut self, path: &Path, error: &std::io::Error) {
        let gone = error.raw_os_error() == Some(Errno::NOENT.raw_os_error());
        if gone {
            // Somebody else has it.
            self.waiting.candidates.remove(path);
            return;
        }
        let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::XDEV) => "it is on another file system than the start of its glob".to_owned(),
            _ => error.to_string(),
        };
        let text = format!("`{}` cannot be claimed and waits: {why}", path_text::show(path));
        tracing::warn!(problem = text, "a file is not claimed");
        self.unfulfilled = Some(text);
        self.postpone(path, format!("it cannot be claimed: {why}"));
    }

    /// It is not what was to be claimed: back to where it was, unless something is there again. Then it waits where it is.
    fn give_back(&mut self, place: &Path, fact: FileFact) {
        let found = self.rule.found_at(place).into_owned();
        let start = self.rule.start_above(place);
        let names = start.and_then(|start| {
            Some((start, place.strip_prefix(start).ok()?, found.strip_prefix(start).ok()?))
        });
        let given = names.is_some_and(|(start, place, found)| {
            Beneath::open(start).and_then(|below| below.give_back(place, found)).is_ok()
        });
        let path = if given { found } else { place.to_owned() };
        let candidate = Candidate::new(fact, Instant::now(), self.settle);
        self.waiting.candidates.insert(path, candidate);
    }

    /// Finds claimed files that nobody has told, and what became of those that were.
    pub(super) fn adopt(&mut self, index: usize, cx: &mut Context<'_>, part: &mut Part) {
        if self.rule.claims().is_none() {
            return;
        }
        let folder = self.roots[index].dir().join(FOLDER);
        let Some(found) = self.claimed_below(index, &folder, cx) else { return };
        for path in self.snapshot.paths_under(&folder) {
            if !found.contains(&path) {
                let seen = self.see(&path);
                self.sort(index, &path, &seen);
            }
        }
        for path in found {
            cx.pulse.beat();
            if !self.rule.covers(&path) {
                continue;
            }
            match self.see(&path) {
                Seen::File(fact) if self.snapshot.get(&path).is_none() => {
                    if self.is_forgotten(fact, cx.wall) {
                        part.files.push(Remember { path, version: Some(fact.version) });
                    } else if self.rule.is_as_claimed(&path, fact.version) {
                        self.sort(index, &path, &Seen::File(fact));
                    } else if !self.waiting.candidates.contains_key(&path) {
                        self.give_back(&path, fact);
                    }
                }
                seen @ (Seen::File(_)
                | Seen::Directory(_)
                | Seen::Other
                | Seen::Absent
                | Seen::Unknown(_)) => {
                    self.sort(index, &path, &seen);
                }
            }
        }
    }

    /// Files in folders of ours; `None` where nobody can say. Empty folders, which a crash leaves, go.
    fn claimed_below(&self, index: usize, folder: &Path, cx: &Context<'_>) -> Option<HashSet<PathBuf>> {
        let (ground, claims) = (self.roots[index].ground()?, self.rule.claims()?);
        let mut found = HashSet::new();
        let all = match ground.directory(folder) {
            Ok(opened) => Listing::read(opened).ok()?,
            Err(Errno::NOENT) => return Some(found),
            Err(_) => return None,
        };
        let own = all.directories.iter().filter(|name| claims.owns(name));
        let mut queue: Vec<PathBuf> = own.map(|name| folder.join(name)).collect();
        while let Some(directory) = queue.pop() {
            cx.pulse.beat();
            let listing = Listing::read(ground.directory(&directory).ok()?).ok()?;
            if listing.is_empty() {
                let below = directory.strip_prefix(self.roots[index].dir()).ok()?;
                Beneath::open(self.roots[index].dir()).ok()?.prune(Some(below));
            }
            queue.extend(listing.directories.iter().map(|name| directory.join(name)));
            found.extend(listing.others.iter().map(|name| directory.join(name)));
        }
        Some(found)
    }

    /// It was claimed so long ago that the server may have forgotten that it was told.
    fn is_forgotten(&self, fact: FileFact, wall: Timestamp) -> bool {
        let known_for = self.definition.watch.source.dedupe.ttl / 9 * 8;
        let since = wall.as_nanosecond() - i128::try_from(known_for.as_nanos()).unwrap_or(i128::MAX);
        i128::from(fact.changed) < since
    }

    /// A file that is as it was claimed was quiet for long enough before.
    pub(super) fn settle_of(&self, path: &Path, version: Version) -> Settle {
        if self.rule.is_as_claimed(path, version) { Settle::NONE } else { self.settle }
    }

    /// Nothing is told before the new names of files are on the disk: a power cut would take them away from their tasks.
    pub(super) fn sync_claims(&mut self) {
        // What journals its names writes all that came before with the last one.
        let last = self.unsynced.pop();
        let Some(file) = last.and_then(|place| self.folder_of(&place)) else { return };
        let one_is_enough = crate::probe::journals_names(&file);
        let mut synced = file.sync_all();
        for place in std::mem::take(&mut self.unsynced).into_iter().filter(|_| !one_is_enough) {
            synced = synced.and_then(|()| self.folder_of(&place).map_or(Ok(()), |file| file.sync_all()));
        }
        if let Err(error) = synced {
            tracing::error!(%error, "the names of claimed files may not be on the disk");
        }
    }

    fn folder_of(&self, place: &Path) -> Option<File> {
        let folder = place.parent()?;
        self.ground(folder)?.open_directory(folder).ok()
    }
}

fn is(version: Version, before: FileFact, after: FileFact) -> bool {
    before.version == version && after.version == version
}
