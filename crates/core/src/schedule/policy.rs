//! What becomes of a time that has come: missed times, jitter, blackouts, runs that overlap.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Blackout, DuringBlackout, blackout};
use crate::duration;

/// `missed = "all"` makes up for this much unless the file says otherwise.
const WINDOW: Duration = Duration::from_hours(24);

/// What happens to fires whose time passed while no server ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One fire stands for all that were missed.
    #[default]
    Latest,
    Skip,
    /// Each is made up for, the oldest first.
    All,
}

/// What a fire does while an earlier run of the same schedule has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// They run side by side.
    #[default]
    Allow,
    /// It does not run.
    Skip,
    /// It waits; while one waits already, it does not run.
    QueueOne,
    /// They run one after the other.
    QueueAll,
    /// The earlier ones are cancelled, and it runs once they have ended.
    CancelOld,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct FirePolicy {
    pub missed: Missed,
    /// What was missed longer ago than this is not made up for.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub missed_window: Option<Duration>,
    /// A run starts up to this much after its time; which of it, is said by schedule and time alone.
    #[serde(with = "duration", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blackout: Vec<Blackout>,
    pub during_blackout: DuringBlackout,
    pub overlap: Overlap,
}

impl FirePolicy {
    /// How late a missed time may be made up for; `None` without a bound.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        match self.missed {
            Missed::All => Some(self.missed_window.unwrap_or(WINDOW)),
            Missed::Latest | Missed::Skip => self.missed_window,
        }
    }

    /// When the blackout around `at` ends, if there is one.
    #[must_use]
    pub fn blackout_end(&self, at: Timestamp) -> Option<Timestamp> {
        blackout::end_at(&self.blackout, at)
    }

    /// The start of the run that belongs to `at`: always before the next time, and the same on every server.
    #[must_use]
    pub fn jittered(&self, seed: &str, at: Timestamp, next: Option<Timestamp>) -> Timestamp {
        let most = SignedDuration::try_from(self.jitter).unwrap_or(SignedDuration::ZERO);
        let most =
            next.map_or(most, |next| most.min(next.duration_since(at) - SignedDuration::from_millis(1)));
        let Some(most) = u64::try_from(most.as_millis()).ok().filter(|most| *most > 0) else { return at };
        let millis = spread(seed, at) % (most + 1);
        let delay = SignedDuration::from_millis(i64::try_from(millis).unwrap_or_default());
        at.checked_add(delay).unwrap_or(at)
    }
}

/// An even spread that stays the same over versions: FNV-1a, then the finish of splitmix64.
fn spread(seed: &str, at: Timestamp) -> u64 {
    let bytes = seed.bytes().chain(at.as_millisecond().to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
