//! Which refused deliveries are kept as events: a few per hook and minute, so that its owner can see why, and
//! nobody can fill the database with them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_mins(1);
/// Hooks that are counted at once. Only hooks that exist are, so this is not reached by guessing names.
const MAX_HOOKS: usize = 4096;

#[derive(Default)]
pub(super) struct Samples(Mutex<HashMap<String, (Instant, u32)>>);

impl Samples {
    /// Whether this one is kept.
    pub(super) fn take(&self, hook: &str) -> bool {
        self.take_at(hook, Instant::now())
    }

    fn take_at(&self, hook: &str, now: Instant) -> bool {
        let mut hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hooks.len() >= MAX_HOOKS {
            hooks.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        }
        let (since, taken) = hooks.entry(hook.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *taken) = (now, 0);
        }
        *taken += 1;
        *taken <= PER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute() {
        let (samples, now) = (Samples::default(), Instant::now());
        assert_eq!((0..20).filter(|_| samples.take_at("a", now)).count(), 10);
        assert!(samples.take_at("b", now));
        assert!(!samples.take_at("a", now + WINDOW / 2));
        assert!(samples.take_at("a", now + WINDOW));
    }
}
