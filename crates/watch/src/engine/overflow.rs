//! What follows when hints were lost: everything is looked at again, and less often where they are lost over and over. The
//! watches say so for a while, with what helps.

use std::time::{Duration, Instant};

use crate::hint::Lost;

/// How long it is shown.
const SHOWN: Duration = Duration::from_mins(1);

const INOTIFY: &str = "sysctl fs.inotify.max_queued_events=131072";
const FANOTIFY: &str = "sysctl fs.fanotify.max_queued_events=131072";

#[derive(Debug)]
pub(super) struct Overflow {
    not_before: Instant,
    pause: Duration,
    /// The last time that was given; what is lost before it is answered then.
    answer: Instant,
    /// How often the kernel lost hints, and when it last did.
    count: u64,
    last: Option<Instant>,
    /// What raises the limit of the queue that last did.
    remedy: &'static str,
}

impl Overflow {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(1);

    pub(super) const fn new(now: Instant) -> Self {
        Self { not_before: now, pause: Self::FIRST, answer: now, count: 0, last: None, remedy: INOTIFY }
    }

    /// When to look at everything, after hints were lost at `now`.
    pub(super) fn answer(&mut self, lost: Lost, now: Instant) -> Instant {
        let remedy = match lost {
            Lost::Inotify => Some(INOTIFY),
            Lost::Fanotify => Some(FANOTIFY),
            Lost::Memory => None,
        };
        if let Some(remedy) = remedy {
            self.count += 1;
            (self.last, self.remedy) = (Some(now), remedy);
        }
        self.next(now)
    }

    fn next(&mut self, now: Instant) -> Instant {
        if now < self.answer {
            return self.answer;
        }
        let quiet = now.saturating_duration_since(self.not_before);
        self.pause = if quiet > self.pause { Self::FIRST } else { (self.pause * 2).min(Self::LONGEST) };
        let at = now.max(self.not_before);
        (self.not_before, self.answer) = (at + self.pause, at);
        at
    }

    /// Then it is not shown any more.
    pub(super) fn shown_until(&self, now: Instant) -> Option<Instant> {
        self.last.map(|last| last + SHOWN).filter(|until| *until > now)
    }

    pub(super) fn describe(&self, now: Instant) -> Option<String> {
        self.shown_until(now)?;
        Some(format!(
            "the system's queue of events overflowed ({} times so far): everything is looked at again, so that nothing is missed; \
             raise its limit with `{}` and start the agent again",
            self.count, self.remedy
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_overflows_are_answered_less_and_less_often() {
        let start = Instant::now();
        let mut overflow = Overflow::new(start);
        let mut at = start;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = overflow.next(at);
            pauses.push((next - at).as_secs());
            at = next;
        }
        assert_eq!(pauses, [0, 2, 4, 8, 16, 32, 60, 60]);
        let later = at + Duration::from_mins(10);
        assert_eq!(overflow.next(later), later);
        // Many that come together are one: the second answer is for all of them.
        let answers: Vec<_> = (1..100).map(|n| overflow.next(later + Duration::from_millis(n))).collect();
        assert!(answers.iter().all(|answer| *answer == later + Overflow::FIRST), "{answers:?}");
    }

    #[test]
    fn what_the_kernel_lost_is_said_for_a_while() {
        let start = Instant::now();
        let mut overflow = Overflow::new(start);
        overflow.answer(Lost::Memory, start);
        assert_eq!(overflow.describe(start), None);
        overflow.answer(Lost::Inotify, start);
        let says = |overflow: &Overflow, count: &str, remedy: &str| {
            overflow.describe(start).is_some_and(|text| text.contains(count) && text.contains(remedy))
        };
        assert!(says(&overflow, "1 times", INOTIFY));
        overflow.answer(Lost::Fanotify, start);
        assert!(says(&overflow, "2 times", FANOTIFY));
        assert_eq!(overflow.shown_until(start), Some(start + SHOWN));
        assert_eq!(overflow.describe(start + SHOWN), None);
    }
}
