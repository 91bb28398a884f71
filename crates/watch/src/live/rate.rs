//! How many files are told in a second, where the trigger bounds it: the rest waits, on disk and in order.

use std::time::{Duration, Instant};

/// A bucket that fills with the trigger's rate and holds a second of it.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    /// When the bucket was or will be empty. Every file moves it on by its share of a second.
    empty_at: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, empty_at: now.checked_sub(Duration::from_secs(1)).unwrap_or(now) }
    }

    /// Whether there is a place for one file.
    pub(super) fn has_place(&self, now: Instant) -> bool {
        self.next_at() <= now
    }

    /// Takes it.
    pub(super) fn take(&mut self, now: Instant) {
        let oldest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        self.empty_at = self.empty_at.max(oldest) + self.share();
    }

    /// When the next file has a place.
    pub(super) fn next_at(&self) -> Instant {
        self.empty_at + self.share()
    }

    fn share(&self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_once_and_then_one_by_one() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(4, start);
        let mut take = |at| {
            let mut count = 0;
            while rate.has_place(at) {
                rate.take(at);
                count += 1;
            }
            count
        };
        assert_eq!(take(at(0)), 4);
        assert_eq!(take(at(200)), 0);
        assert_eq!(take(at(250)), 1);
        assert_eq!(take(at(1000)), 3);
        assert_eq!(take(at(60_000)), 4, "what was not used does not add up");
        assert_eq!(rate.next_at(), at(60_250));
    }
}
