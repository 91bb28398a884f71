//! `[on.interval]`: fires at fixed distances from an anchor.

use std::time::Duration;

use jiff::Timestamp;

/// Fires at `anchor + n * every`, never at "last + every", so that it does not drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalSchedule {
    pub every: Duration,
}

impl IntervalSchedule {
    /// The first fire after `after`; never the anchor itself.
    pub fn next_after(&self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        let every = i128::try_from(self.every.as_nanos()).ok().filter(|every| *every > 0)?;
        let elapsed = after.as_nanosecond() - anchor.as_nanosecond();
        let rounds = elapsed.div_euclid(every).max(0) + 1;
        let nanos = rounds.checked_mul(every)?.checked_add(anchor.as_nanosecond())?;
        Timestamp::from_nanosecond(nanos).ok()
    }
}
