//! Which deliveries that are not authentic are kept as events: so many per hook and minute, so that its owner can see
//! why, and nobody can fill the database with them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(1);
/// Hooks that are counted at once. Only hooks that exist are, so this is not reached by guessing names.
const MAX_HOOKS: usize = 4096;

pub(super) struct Samples {
    per_window: u32,
    taken: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Samples {
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, taken: Mutex::default() }
    }

    /// Whether this one is kept.
    pub(super) fn take(&self, hook: &str) -> bool {
        self.take_at(hook, Instant::now())
    }

    fn take_at(&self, hook: &str, now: Instant) -> bool {
        let mut hooks = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if hooks.len() >= MAX_HOOKS {
            hooks.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        }
        let (since, taken) = hooks.entry(hook.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *taken) = (now, 0);
        }
        *taken += 1;
        *taken <= self.per_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute() {
        let (samples, now) = (Samples::new(10), Instant::now());
        assert_eq!((0..20).filter(|_| samples.take_at("a", now)).count(), 10);
        assert!(samples.take_at("b", now));
        assert!(!samples.take_at("a", now + WINDOW / 2));
        assert!(samples.take_at("a", now + WINDOW));
    }
}
