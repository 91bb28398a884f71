//! The rules that decide, free of I/O and with the time as an argument: what one look at a path
//! means ([`look`]), and when a candidate is complete ([`Candidate::judge`]).
//!
//! Quiet time is measured on the monotonic clock since the last change that was *seen*: the file's
//! own times prove nothing (`cp -p` makes a new file with an old one).

use std::time::{Duration, Instant};

use crate::{
    lease::Writer,
    probe::{FileFact, Seen},
    version::Version,
};

/// What a look at a path means, given what is remembered of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing new: a late or doubled hint, or nothing that is watched for.
    Same,
    /// A version that was not reported yet.
    Changed(FileFact),
    /// The remembered file is not there any more.
    Gone,
    /// Not answered: decide nothing, look again later.
    Unknown,
}

pub(crate) fn look(remembered: Option<Version>, seen: &Seen) -> Look {
    match (remembered, seen) {
        (_, Seen::Unknown(_)) => Look::Unknown,
        (Some(version), Seen::File(fact)) if version == fact.version => Look::Same,
        (_, Seen::File(fact)) => Look::Changed(*fact),
        (Some(_), Seen::Directory(_) | Seen::Other | Seen::Absent) => Look::Gone,
        (None, Seen::Directory(_) | Seen::Other | Seen::Absent) => Look::Same,
    }
}

/// How long a file must stay unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settle {
    /// Where it was moved into place and the writer test says that nobody writes.
    pub(crate) placed: Duration,
    /// Where the writer test says that nobody writes.
    pub(crate) tested: Duration,
    /// Where the test cannot tell.
    pub(crate) untested: Duration,
}

impl Settle {
    /// Quiet enough already.
    pub(crate) const NONE: Self =
        Self { placed: Duration::ZERO, tested: Duration::ZERO, untested: Duration::ZERO };

    pub(crate) fn new(configured: Option<Duration>) -> Self {
        Self {
            placed: configured.unwrap_or_default(),
            tested: configured.unwrap_or(Duration::from_millis(250)),
            untested: configured.unwrap_or(Duration::from_secs(10)),
        }
    }
}

/// The pauses between two writer tests of a file that somebody holds open. The close brings a hint,
/// which ends the pause; the longest pause is what a lost hint costs.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Between two questions for one digest, whose answer ends the wait.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// What a file lacks whose digest is not known yet.
pub(crate) const HASHING: &str = "its checksum is being computed";

/// What a look at a candidate showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observed {
    Same,
    Another,
}

/// A version that was seen and is not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) fact: FileFact,
    pub(crate) first_seen: Instant,
    pub(crate) changed_at: Instant,
    test_at: Instant,
    pause: Duration,
    /// This version was moved into place.
    placed: bool,
    /// It was told that it is stuck.
    pub(crate) stuck: bool,
    /// What it lacks besides quiet.
    pub(crate) lacks: Option<Box<str>>,
    /// Since when it is complete, and waits for files that come before it.
    pub(crate) held_since: Option<Instant>,
    /// Its digest is asked for.
    pub(crate) hashing: bool,
    pub(crate) digest: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Complete: this version may be reported.
    Ready(FileFact),
    Wait,
}

impl Candidate {
    pub(crate) fn new(fact: FileFact, now: Instant, settle: Settle) -> Self {
        let test_at = now + settle.tested;
        Self {
            fact,
            first_seen: now,
            changed_at: now,
            test_at,
            pause: FIRST_PAUSE,
            placed: false,
            stuck: false,
            lacks: None,
            held_since: None,
            hashing: false,
            digest: None,
        }
    }

    /// A hint made us look again.
    pub(crate) fn observe(&mut self, fact: FileFact, now: Instant, settle: Settle) -> Observed {
        if fact.version == self.fact.version {
            // Nothing changed, but something happened: most likely the writer closed the file.
            self.test_at = self.test_at.min((self.changed_at + self.tested(settle)).max(now));
            self.pause = FIRST_PAUSE;
            return Observed::Same;
        }
        let Self { first_seen, stuck, .. } = *self;
        *self = Self { first_seen, stuck, ..Self::new(fact, now, settle) };
        Observed::Another
    }

    /// Quiet counts from `now` on.
    pub(crate) fn begin(&mut self, now: Instant, settle: Settle) {
        self.changed_at = now;
        self.test_at = now + self.tested(settle);
    }

    /// The version that was just seen was moved into place.
    pub(crate) fn place(&mut self, now: Instant, settle: Settle) {
        self.placed = true;
        self.test_at = self.test_at.min((self.changed_at + settle.placed).max(now));
    }

    /// How long it must have been quiet where nobody writes.
    const fn tested(&self, settle: Settle) -> Duration {
        if self.placed { settle.placed } else { settle.tested }
    }

    /// When to look whether it is complete.
    pub(crate) const fn test_at(&self) -> Instant {
        self.test_at
    }

    /// What it waits for has happened, or will have by then.
    pub(crate) fn hasten(&mut self, at: Instant) {
        self.test_at = self.test_at.min(at);
        self.pause = FIRST_PAUSE;
    }

    pub(crate) const fn wait_until(&mut self, at: Instant) {
        self.test_at = at;
    }

    pub(crate) fn not_before(&mut self, at: Instant) {
        self.test_at = self.test_at.max(at);
    }

    /// Its digest makes it be looked at again.
    pub(crate) fn await_digest(&mut self, now: Instant) {
        self.hashing = true;
        self.lacks = Some(HASHING.into());
        self.test_at = now + LONGEST_WAIT;
    }

    /// To be looked at once it has waited for so long.
    pub(crate) fn limit(&mut self, longest: Duration) {
        if !self.stuck {
            self.test_at = self.test_at.min(self.first_seen + longest);
        }
    }

    /// It could not be looked at, or lacks something: not again at once.
    pub(crate) fn postpone(&mut self, now: Instant) {
        self.test_at = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// `before` and `after` were seen around the writer test, so that a write which the test did
    /// not see, because it began and ended before it, shows as a change.
    pub(crate) fn judge(
        &mut self,
        before: FileFact,
        writer: Writer,
        after: FileFact,
        now: Instant,
        settle: Settle,
    ) -> Judgement {
        for fact in [before, after] {
            if fact.version != self.fact.version {
                self.observe(fact, now, settle);
                return Judgement::Wait;
            }
        }
        match writer {
            Writer::Open => {
                // What was read before that may be another file's.
                self.digest = None;
                self.changed_at = now;
                self.placed = false;
                self.test_at = now + self.pause.max(settle.tested);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Judgement::Wait
            }
            Writer::None => self.quiet_since(self.tested(settle), now),
            Writer::Unknown => self.quiet_since(settle.untested, now),
        }
    }

    fn quiet_since(&mut self, quiet: Duration, now: Instant) -> Judgement {
        if now >= self.changed_at + quiet {
            return Judgement::Ready(self.fact);
        }
        self.test_at = self.changed_at + quiet;
        Judgement::Wait
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::*;

    fn fact(mtime: i64) -> FileFact {
        FileFact {
            version: Version { ino: 1, btime: Some(0), size: 1, mtime },
            changed: mtime,
            device: 1,
            links: 1,
            way: crate::probe::Way::Itself,
        }
    }

    #[test]
    fn looks() {
        let check = |row: Option<i64>, seen: Seen, expected: Look| {
            assert_eq!(look(row.map(|mtime| fact(mtime).version), &seen), expected, "{row:?} {seen:?}");
        };
        check(None, Seen::Absent, Look::Same);
        check(None, Seen::Other, Look::Same);
        check(None, Seen::File(fact(1)), Look::Changed(fact(1)));
        check(Some(1), Seen::File(fact(1)), Look::Same);
        check(Some(1), Seen::File(fact(2)), Look::Changed(fact(2)));
        check(Some(2), Seen::File(fact(1)), Look::Changed(fact(1)));
        check(Some(1), Seen::Absent, Look::Gone);
        check(Some(1), Seen::Other, Look::Gone);
        check(Some(1), Seen::Unknown(Errno::IO), Look::Unknown);
        check(None, Seen::Unknown(Errno::ACCESS), Look::Unknown);
    }

    /// A file with a life of its own, on a clock of our own.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Open,
        Write,
        Close,
        /// Another file takes the name, complete; told at once, as the system does.
        Place,
        /// Milliseconds pass.
        Pass(u16),
        /// The system tells us that something happened, or tells us nothing for a while.
        Hint,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Open),
            Just(Step::Write),
            Just(Step::Close),
            Just(Step::Place),
            (0_u16..400).prop_map(Step::Pass),
            Just(Step::Hint),
        ];
        proptest::collection::vec(step, 0..60)
    }

    struct Model {
        now: Instant,
        mtime: i64,
        open: bool,
        /// The version that was moved into place.
        placed: Option<i64>,
        written_at: Instant,
        knows_writers: bool,
        settle: Settle,
        candidate: Candidate,
    }

    impl Model {
        fn new(knows_writers: bool) -> Self {
            let (now, settle) = (Instant::now(), Settle::new(None));
            let candidate = Candidate::new(fact(0), now, settle);
            Self {
                now,
                mtime: 0,
                open: true,
                placed: None,
                written_at: now,
                knows_writers,
                settle,
                candidate,
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Open => self.open = true,
                Step::Write if self.open => {
                    self.mtime += 1;
                    self.written_at = self.now;
                }
                Step::Write => {}
                Step::Close => self.open = false,
                Step::Place => {
                    self.mtime += 1;
                    self.written_at = self.now;
                    (self.open, self.placed) = (false, Some(self.mtime));
                    self.candidate.observe(fact(self.mtime), self.now, self.settle);
                    self.candidate.place(self.now, self.settle);
                }
                Step::Pass(millis) => self.now += Duration::from_millis(u64::from(millis)),
                Step::Hint => {
                    self.candidate.observe(fact(self.mtime), self.now, self.settle);
                }
            }
        }

        /// What the loop does at this time.
        fn tick(&mut self) -> Judgement {
            if self.now < self.candidate.test_at() {
                return Judgement::Wait;
            }
            let writer = match (self.knows_writers, self.open) {
                (false, _) => Writer::Unknown,
                (true, true) => Writer::Open,
                (true, false) => Writer::None,
            };
            let seen = fact(self.mtime);
            self.candidate.judge(seen, writer, seen, self.now, self.settle)
        }
    }

    proptest! {
        #[test]
        fn a_ready_file_is_closed_quiet_and_current(knows_writers: bool, steps in steps()) {
            let mut model = Model::new(knows_writers);
            for step in steps {
                model.step(step);
                if let Judgement::Ready(found) = model.tick() {
                    prop_assert_eq!(found, fact(model.mtime));
                    prop_assert!(!(model.open && knows_writers), "ready while open");
                    let quiet = match (knows_writers, model.placed == Some(model.mtime)) {
                        (true, true) => model.settle.placed,
                        (true, false) => model.settle.tested,
                        (false, _) => model.settle.untested,
                    };
                    prop_assert!(model.now >= model.written_at + quiet, "ready before it was quiet");
                }
            }
        }

        #[test]
        fn every_file_that_is_left_alone_becomes_ready(knows_writers: bool, steps in steps()) {
            let mut model = Model::new(knows_writers);
            for step in steps {
                model.step(step);
                model.tick();
            }
            model.open = false;
            let deadline = model.now + LONGEST_PAUSE + model.settle.untested * 2;
            loop {
                model.now = model.now.max(model.candidate.test_at());
                prop_assert!(model.now <= deadline, "it never becomes ready");
                if let Judgement::Ready(found) = model.tick() {
                    prop_assert_eq!(found, fact(model.mtime));
                    break;
                }
            }
        }

        #[test]
        fn a_file_that_was_moved_into_place_is_ready_at_once_unless_somebody_has_it_open(steps in steps()) {
            let mut model = Model::new(true);
            for step in steps {
                model.step(step);
                model.tick();
            }
            model.step(Step::Place);
            let (placed, mut held) = (model.tick(), model);
            prop_assert_eq!(placed, Judgement::Ready(fact(held.mtime)));
            held.step(Step::Open);
            prop_assert_eq!(held.tick(), Judgement::Wait);
            held.step(Step::Close);
            held.step(Step::Hint);
            held.now += Duration::from_millis(249);
            prop_assert_eq!(held.tick(), Judgement::Wait, "who held it open has its usual time");
        }

        #[test]
        fn a_hint_after_the_close_ends_a_long_pause(tests in 1_u32..12) {
            let mut model = Model::new(true);
            for _ in 0..tests {
                model.now = model.now.max(model.candidate.test_at());
                prop_assert_eq!(model.tick(), Judgement::Wait);
            }
            model.open = false;
            model.step(Step::Hint);
            prop_assert!(model.candidate.test_at() <= model.now + model.settle.tested);
        }
    }
}
