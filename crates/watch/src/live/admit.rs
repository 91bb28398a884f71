//! What a file that is complete must be besides: asks the gate and the proof, and keeps what waits for something beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Context, Live, judge::Decided};
use crate::{
    digest::{Answer, Found, Hashed},
    gate::{Passage, Subject},
    ground::Ground,
    probe::{FileFact, Seen},
    proof::{self, Proof, Proven},
    settle::HASHING,
};

impl Live {
    pub(super) fn admit(&mut self, path: &Path, fact: FileFact, cx: &mut Context<'_>) -> Decided {
        if self.rule.is_claimed(path) {
            return self.prove(path, fact, cx);
        }
        match self.pass(path, fact, cx) {
            Passage::Take => self.prove(path, fact, cx),
            Passage::Leave(_) => Decided::Leave(fact.told()),
            Passage::Reject(reason) => Decided::Reject(fact.told(), reason),
            Passage::Wait(why, after) => {
                self.postpone(path, why);
                if let (Some(after), Some(candidate)) = (after, self.waiting.candidates.get_mut(path)) {
                    candidate.hasten(Instant::now() + after);
                }
                Decided::NotYet
            }
        }
    }

    fn pass(&self, path: &Path, fact: FileFact, cx: &Context<'_>) -> Passage {
        let seen = self.waiting.candidates.get(path).map(|candidate| candidate.first_seen.elapsed());
        self.rule.gate.pass(&Subject {
            path,
            captures: &self.rule.captures(path),
            fact,
            seen_for: seen.unwrap_or(Duration::ZERO),
            wall: cx.wall,
        })
    }

    fn prove(&mut self, path: &Path, fact: FileFact, cx: &mut Context<'_>) -> Decided {
        if self.proof_of(path).is_nothing() {
            return Decided::Complete(fact.told(), None);
        }
        let Some(ground) = self.ground(path) else { return Decided::NotYet };
        let proven = self.proof(&ground, path, fact, cx);
        // It was read for a while: it must still be what it was.
        match ground.see(path) {
            Seen::File(after) if after.version == fact.version => {}
            Seen::Directory(after) if FileFact::whole(after).told() == fact.told() => {}
            seen @ (Seen::File(_) | Seen::Directory(_) | Seen::Other | Seen::Absent | Seen::Unknown(_)) => {
                if let Some(index) = self.root_of(path) {
                    self.sort(index, path, &seen);
                }
                return Decided::NotYet;
            }
        }
        match proven {
            Proven::Yes { sha256 } => Decided::Complete(fact.told(), sha256),
            Proven::No(reason) => Decided::Reject(fact.told(), reason),
            Proven::NotYet { beside, why } => {
                if let Some(beside) = beside {
                    self.watch_inside(path, cx);
                    self.waiting.look_out(beside, path);
                }
                self.postpone(path, why);
                Decided::NotYet
            }
            Proven::Unhashed => Decided::NotYet,
        }
    }

    fn proof_of(&self, path: &Path) -> &Proof {
        if self.rule.is_claimed(path) { &self.rule.proof_of_claimed } else { &self.rule.proof }
    }

    /// Where the digest decides, it is asked for; what is asked for elsewhere makes the candidate wait.
    fn proof(&mut self, ground: &Arc<Ground>, path: &Path, fact: FileFact, cx: &mut Context<'_>) -> Proven {
        let known = self.waiting.candidates.get(path).and_then(|candidate| candidate.digest.clone());
        let proof = self.proof_of(path);
        match proof.prove(ground, path, cx.wall, known.as_deref()) {
            Proven::Unhashed => match cx.digests.ask(ground, path, fact.version) {
                Answer::Known(Ok(digest)) => proof.prove(ground, path, cx.wall, Some(&digest)),
                Answer::Known(Err(error)) => proof::unreadable(&error),
                Answer::Later => {
                    if let Some(candidate) = self.waiting.candidates.get_mut(path) {
                        candidate.await_digest(Instant::now());
                    }
                    Proven::Unhashed
                }
                Answer::Full => Proven::NotYet { beside: None, why: HASHING.to_owned() },
            },
            proven @ (Proven::Yes { .. } | Proven::NotYet { .. } | Proven::No(_)) => proven,
        }
    }

    /// The digest of a file is known that some watch waits for.
    pub(crate) fn hashed(&mut self, found: &Found) {
        let candidate = self.waiting.candidates.get_mut(&found.path);
        let Some(candidate) = candidate.filter(|candidate| candidate.fact.version == found.version) else {
            return;
        };
        candidate.hashing = false;
        match &found.hashed {
            Hashed::Digest(digest) => candidate.digest = Some(digest.as_str().into()),
            Hashed::Changed => {}
            Hashed::Failed(error) => {
                return self.postpone(&found.path, format!("it cannot be read: {error}"));
            }
        }
        candidate.hasten(Instant::now());
    }

    /// It lacks something: to be looked at again later, or when a hint says so.
    pub(super) fn postpone(&mut self, path: &Path, why: String) {
        if let Some(candidate) = self.waiting.candidates.get_mut(path) {
            candidate.postpone(Instant::now());
            candidate.lacks = Some(why.into());
        }
    }

    /// Something happened to a path that files may wait for.
    pub(super) fn appear(&mut self, beside: &Path) {
        let from = (beside.to_owned(), PathBuf::new());
        let waiting = self.waiting.beside.range(from..).take_while(|(name, _)| name == beside);
        let waiting: Vec<_> = waiting.cloned().collect();
        for pair in waiting {
            if let Some(candidate) = self.waiting.candidates.get_mut(&pair.1) {
                candidate.hasten(Instant::now());
            }
            self.waiting.beside.remove(&pair);
        }
    }

    pub(super) fn sort_due(&self, due: &mut [PathBuf]) {
        due.sort_unstable();
        due.sort_by_cached_key(|path| self.standing(path));
    }
}
