//! What the server is asked about events that it has: how their tasks stand. Files that shall be moved or deleted wait for
//! that, and so do files of a strict order. A page at a time, and again after a while, because the answer changes
//! elsewhere; ends that others wait for come by themselves too, where the server sees them.

use std::time::Duration;

use hetuflow_core::{
    id::EventId,
    protocol::{FileOutcome, FromAgent},
};
use hetuflow_watch::{WatchError, Watcher};
use tokio::time::Instant;

/// Events that are asked about together.
const ASKED: u32 = 100;

/// Between two rounds of questions, at first and at most.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_SELDOM: Duration = Duration::from_secs(10);

/// A question without an answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Asking {
    fates: Fates,
    lines: Lines,
    /// The question that has no answer yet; there is no other beside it.
    open: Option<Question>,
}

#[derive(Debug)]
struct Question {
    events: Vec<EventId>,
    of: Kind,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fates,
    Lines,
}

/// Files that shall be moved or deleted.
#[derive(Debug)]
struct Fates {
    /// The last place of the page before.
    last: i64,
    pause: Pause,
    next: Option<Instant>,
}

/// Events that are ahead of others.
#[derive(Debug)]
struct Lines {
    /// The last place that was asked about.
    last: i64,
    /// There may be some after it; they are asked about at once, so that the server says when they end.
    fresh: bool,
    pause: Pause,
    /// When to ask about all of them again.
    round_at: Option<Instant>,
    /// How often they had changed when they were last looked for.
    seen: u64,
}

/// Soon at first, and then less and less often.
#[derive(Debug)]
struct Pause(Duration);

impl Pause {
    fn again(&mut self) -> Instant {
        let at = Instant::now() + self.0;
        self.0 = (self.0 * 2).min(ASK_SELDOM);
        at
    }

    const fn reset(&mut self) {
        self.0 = ASK_AGAIN;
    }
}

impl Asking {
    /// Asks nothing before [`Asking::begin`].
    pub(super) const fn new() -> Self {
        let fates = Fates { last: 0, pause: Pause(ASK_AGAIN), next: None };
        let lines = Lines { last: 0, fresh: false, pause: Pause(ASK_AGAIN), round_at: None, seen: 0 };
        Self { fates, lines, open: None }
    }

    pub(super) fn begin(&mut self) {
        self.fates.next = Some(Instant::now());
        self.lines.fresh = true;
    }

    /// The server has more events by now.
    pub(super) fn acknowledged(&mut self, watcher: &Watcher) {
        self.fates.pause.reset();
        self.fates.next = Some(self.fates.next.unwrap_or_else(|| Instant::now() + ASK_AGAIN));
        let lined = watcher.lined();
        if self.lines.seen != lined {
            self.lines.seen = lined;
            self.lines.pause.reset();
            self.lines.fresh = true;
        }
    }

    /// When there is something to ask next.
    pub(super) fn at(&self) -> Option<Instant> {
        if let Some(open) = &self.open {
            return Some(open.until);
        }
        let lines = if self.lines.fresh { Some(Instant::now()) } else { self.lines.round_at };
        [self.fates.next, lines].into_iter().flatten().min()
    }

    pub(super) fn failed(&mut self, at: Instant) {
        self.fates.next = self.fates.next.map(|_| at);
        self.lines.fresh = false;
        self.lines.round_at = Some(at);
    }

    /// The next question, if it is time for one.
    pub(super) async fn ask(&mut self, watcher: &Watcher) -> Result<Option<FromAgent>, WatchError> {
        let now = Instant::now();
        if let Some(open) = self.open.take_if(|open| open.until <= now) {
            match open.of {
                Kind::Fates => self.fates.next = Some(now),
                Kind::Lines => self.lines.round_at = Some(now),
            }
        }
        if self.open.is_some() {
            return Ok(None);
        }
        let lines = self.lines.page(watcher, now).await?;
        let (of, events) = match lines {
            Some(events) => (Kind::Lines, Some(events)),
            None => (Kind::Fates, self.fates.page(watcher, now).await?),
        };
        let Some(events) = events else { return Ok(None) };
        self.open = Some(Question { events: events.clone(), of, until: now + PATIENCE });
        Ok(Some(FromAgent::FileOutcomes { events, follow: of == Kind::Lines }))
    }

    /// An answer, or what the server says by itself.
    pub(super) fn answered(&mut self, outcomes: &[(EventId, FileOutcome)]) {
        if outcomes.iter().any(|(_, outcome)| *outcome != FileOutcome::Open) {
            self.fates.pause.reset();
            self.lines.pause.reset();
        }
        let answers = |open: &mut Question| open.events.iter().eq(outcomes.iter().map(|(id, _)| id));
        if self.open.take_if(answers).is_some_and(|open| open.of == Kind::Fates) {
            self.fates.answered(outcomes.len());
        }
    }
}

impl Fates {
    async fn page(&mut self, watcher: &Watcher, now: Instant) -> Result<Option<Vec<EventId>>, WatchError> {
        if self.next.is_none_or(|at| at > now) {
            return Ok(None);
        }
        let page = watcher.awaited(self.last, ASKED).await?;
        if page.is_empty() {
            let from_start = self.last == 0;
            self.last = 0;
            // Without anything to wait for, the next acknowledgement begins anew.
            self.next = (!from_start).then(|| self.pause.again());
            return Ok(None);
        }
        self.last = page.last().map_or(0, |(place, _)| *place);
        self.next = None;
        Ok(Some(page.into_iter().map(|(_, id)| id).collect()))
    }

    fn answered(&mut self, count: usize) {
        // A page that was not full was the last one.
        if count < ASKED as usize {
            self.last = 0;
            self.next = Some(self.pause.again());
        } else {
            self.next = Some(Instant::now());
        }
    }
}

impl Lines {
    async fn page(&mut self, watcher: &Watcher, now: Instant) -> Result<Option<Vec<EventId>>, WatchError> {
        if self.round_at.is_some_and(|at| at <= now) {
            (self.last, self.fresh, self.round_at) = (0, true, None);
        }
        if !self.fresh {
            return Ok(None);
        }
        let page = watcher.followed(self.last, ASKED).await?;
        self.fresh = page.len() == ASKED as usize;
        self.last = page.last().map_or(self.last, |(place, _)| *place);
        if !self.fresh && self.last > 0 && self.round_at.is_none() {
            self.round_at = Some(self.pause.again());
        }
        Ok((!page.is_empty()).then(|| page.into_iter().map(|(_, id)| id).collect()))
    }
}
