//! Chance with a memory: the same seed gives the same numbers on every machine and with every version of every
//! library, so that a run can be repeated. `SplitMix64`, by its published constants.

use std::{ops::Range, time::Duration};

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// `name` keeps the uses of one seed apart.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mixed = name.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)));
        Self(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// One in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// A number that has nothing to do with its neighbours'.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_chance() {
        let numbers = |seed, name| {
            let mut random = Random::new(seed, name);
            [(); 4].map(|()| random.below(1000))
        };
        assert_eq!(numbers(7, "server 0"), numbers(7, "server 0"));
        assert_ne!(numbers(7, "server 0"), numbers(8, "server 0"));
        assert_ne!(numbers(7, "server 0"), numbers(7, "agent 0"));
    }
}
