//! Makes events: what a file is told as, and to whom it is told that a file is stuck or was refused.

use std::path::{Path, PathBuf};

use hetuflow_core::{
    path_text,
    protocol::FileEvent,
    trigger::{FileChange, OnReject},
};

use jiff::Timestamp;

use super::{Context, Live};
use crate::{
    fate::{self, Fate, Fulfilled, Verdict},
    probe::FileFact,
    turn::{Part, Remember, Turn},
    version::{self, Finding, Teller, Version},
};

/// What there is to say about a path.
#[derive(Debug, Clone)]
pub(super) struct About<'a> {
    pub(super) version: Version,
    pub(super) fact: Option<FileFact>,
    pub(super) sha256: Option<String>,
    pub(super) old_path: Option<&'a Path>,
    pub(super) reason: Option<String>,
}

impl About<'_> {
    pub(super) const fn version(version: Version) -> Self {
        Self { version, fact: None, sha256: None, old_path: None, reason: None }
    }

    pub(super) fn fact(fact: FileFact) -> Self {
        Self { fact: Some(fact), ..Self::version(fact.told()) }
    }
}

impl Live {
    /// Those of the changes that the trigger asks for.
    pub(super) fn events(
        &self,
        changes: &[FileChange],
        path: &Path,
        about: &About<'_>,
        cx: &Context<'_>,
    ) -> Vec<FileEvent> {
        let asked = &self.definition.watch.source.events;
        let told = changes.iter().filter(|change| change.is_notice() || asked.contains(change));
        told.map(|change| self.event(*change, path, about, cx)).collect()
    }

    fn event(&self, change: FileChange, path: &Path, about: &About<'_>, cx: &Context<'_>) -> FileEvent {
        let watch = &self.definition.watch;
        let root = self.rule.start_above(path);
        let (claimed, path) = (path, &*self.rule.found_at(path));
        let finding = Finding {
            path,
            claimed: (claimed != path).then_some(claimed),
            relative: root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path),
            change,
            version: about.version,
            fact: about.fact,
            captures: self.rule.captures(path),
            sha256: about.sha256.clone(),
            old_path: about.old_path,
            reason: about.reason.clone(),
        };
        version::event(Teller { agent: cx.agent, key: &watch.key, source: &watch.source }, finding, cx.wall)
    }

    /// What a candidate is.
    pub(super) fn fact_of(&self, path: &Path) -> Option<FileFact> {
        self.waiting.candidates.get(path).map(|candidate| candidate.fact)
    }

    /// A file that is not complete for very long is no secret.
    pub(super) fn tell_stuck(&mut self, path: &Path, cx: &Context<'_>, turn: &mut Turn, part: &mut Part) {
        let longest = self.definition.watch.source.max_settle;
        let Some(candidate) = self.waiting.candidates.get_mut(path) else { return };
        if candidate.stuck || candidate.first_seen.elapsed() < longest {
            candidate.limit(longest);
            return;
        }
        let reason = candidate.lacks.as_deref().unwrap_or("it is still written").to_owned();
        self.say_stuck(path, reason, cx, turn, part);
    }

    /// Once for each candidate.
    pub(super) fn say_stuck(
        &mut self,
        path: &Path,
        reason: String,
        cx: &Context<'_>,
        turn: &mut Turn,
        part: &mut Part,
    ) {
        let candidates = &mut self.waiting.candidates;
        let Some(candidate) = candidates.get_mut(path).filter(|candidate| !candidate.stuck) else { return };
        candidate.stuck = true;
        let about = About { reason: Some(reason), ..About::fact(candidate.fact) };
        let events = self.events(&[FileChange::Stuck], path, &about, cx);
        turn.decide(part, Vec::new(), events);
    }

    pub(super) fn reject(
        &mut self,
        path: PathBuf,
        version: Version,
        reason: String,
        cx: &Context<'_>,
        turn: &mut Turn,
        part: &mut Part,
    ) {
        tracing::info!(file.path = %path_text::show(&path), reason, "a file is rejected");
        let on_reject = self.definition.watch.source.on_reject;
        let mut events = Vec::new();
        if on_reject != OnReject::Ignore {
            let fact = self.fact_of(&path);
            let about = About { reason: Some(reason), fact, ..About::version(version) };
            events = self.events(&[FileChange::Rejected], &path, &about, cx);
        }
        if let (OnReject::Quarantine, Some(event)) = (on_reject, events.first()) {
            let (event, path) = (event.dedupe.clone(), path.clone());
            part.fates.push(Fate { event, path, version, verdict: Verdict::Quarantine });
        }
        part.rejected += 1;
        turn.decide(part, vec![Remember { path, version: Some(version) }], events);
    }

    /// A file that shall be moved or deleted afterwards waits for the end of its tasks.
    pub(super) fn add_fate(
        &self,
        files: &[Remember],
        events: &[FileEvent],
        cx: &Context<'_>,
        part: &mut Part,
    ) {
        // The last is the file as it is now.
        let Some(Remember { path, version: Some(version) }) = files.last() else { return };
        let Some(event) = events.first().map(|event| &event.dedupe) else { return };
        let mut add = |path: &Path, version: Version, verdict| {
            part.fates.push(Fate { event: event.clone(), path: path.to_owned(), version, verdict });
        };
        if fate::is_asked(&self.definition.watch.source) {
            add(path, *version, Verdict::Open);
        }
        let Some(ground) = self.ground(path) else { return };
        if let Some((marker, version)) =
            self.rule.proof.spent_marker(&ground, &self.rule.found_at(path), cx.wall)
        {
            add(&marker, version, Verdict::Spent);
        }
    }

    /// Does what is known about one file. What goes wrong is said once, and the file stays.
    pub(crate) fn fulfil(&mut self, fate: &Fate, wall: Timestamp) -> Fulfilled {
        let Some(root) = self.rule.start_above(&fate.path) else { return Fulfilled::Stays };
        let source = &self.definition.watch.source;
        match fate::fulfil(fate, source, root, wall) {
            Ok(done) => {
                self.unfulfilled = None;
                if done == Fulfilled::Gone {
                    self.snapshot.remove(&fate.path);
                    self.waiting.gone.remove(&fate.path);
                }
                done
            }
            Err(error) => {
                let path = path_text::show(&fate.path);
                tracing::error!(%error, file.path = %path, verdict = fate.verdict.name(), "a file stays where it is");
                self.unfulfilled = Some(format!("`{path}` could not be moved or deleted, it stays: {error}"));
                Fulfilled::Stays
            }
        }
    }
}
