//! How many deliveries one sender may make.

use std::num::NonZeroU32;

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::listen::Prefix;

/// Senders that are counted apart; more than these share one allowance until the next sweep.
const MAX_SENDERS: usize = 65_536;

pub(crate) struct Rates {
    by_sender: DefaultKeyedRateLimiter<Prefix>,
    others: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Rates {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self::with(Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst)))
    }

    pub(crate) fn with(quota: Quota) -> Self {
        Self {
            by_sender: RateLimiter::keyed(quota),
            others: RateLimiter::direct(quota),
            clock: DefaultClock::default(),
        }
    }

    /// The error is the whole seconds after which the next delivery is welcome.
    pub(crate) fn check(&self, sender: Prefix) -> Result<(), u64> {
        if sender == Prefix::Loopback { Ok(()) } else { self.check_each(sender) }
    }

    /// Whoever it is.
    pub(crate) fn check_each(&self, sender: Prefix) -> Result<(), u64> {
        let checked = if self.by_sender.len() < MAX_SENDERS {
            self.by_sender.check_key(&sender)
        } else {
            self.others.check()
        };
        checked.map_err(|until| until.wait_time_from(self.clock.now()).as_secs() + 1)
    }

    pub(crate) fn sweep(&self) {
        self.by_sender.retain_recent();
        self.by_sender.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> Prefix {
        Prefix::of(ip.parse().expect("an address"))
    }

    #[test]
    fn each_sender_has_its_own_allowance_and_loopback_needs_none() {
        let rates = Rates::new(1, 2);
        assert_eq!(rates.check(of("192.0.2.1")), Ok(()));
        assert_eq!(rates.check(of("192.0.2.1")), Ok(()));
        assert_eq!(rates.check(of("192.0.2.1")), Err(1));
        assert_eq!(rates.check(of("192.0.2.2")), Ok(()));
        assert!((0..10).all(|_| rates.check(of("::1")).is_ok()));
    }
}
