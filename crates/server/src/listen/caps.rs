//! How many connections one listener holds open, in all and for one sender.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Prefix;

#[derive(Clone)]
pub(super) struct Caps {
    max: usize,
    max_per_prefix: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// Only senders with a connection are in here, so it is bounded by `max`.
    by_prefix: HashMap<Prefix, usize>,
}

/// Held for as long as the connection is open.
pub(super) struct Place {
    prefix: Prefix,
    open: Arc<Mutex<Open>>,
}

impl Caps {
    pub(super) fn new(max: usize, max_per_prefix: usize) -> Self {
        Self { max, max_per_prefix, open: Arc::default() }
    }

    pub(super) fn enter(&self, prefix: Prefix) -> Option<Place> {
        let mut open = lock(&self.open);
        let of_prefix = open.by_prefix.get(&prefix).copied().unwrap_or(0);
        let exempt = prefix == Prefix::Loopback;
        if open.all >= self.max || (!exempt && of_prefix >= self.max_per_prefix) {
            return None;
        }
        open.all += 1;
        open.by_prefix.insert(prefix, of_prefix + 1);
        Some(Place { prefix, open: Arc::clone(&self.open) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.all -= 1;
        match open.by_prefix.get_mut(&self.prefix) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_prefix.remove(&self.prefix);
            }
        }
    }
}

/// The counts are whole numbers that are changed together; a panic elsewhere cannot leave them torn.
fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> Prefix {
        Prefix::of(ip.parse().expect("an address"))
    }

    #[test]
    fn one_sender_cannot_take_all_places() {
        let caps = Caps::new(3, 2);
        let first = caps.enter(of("192.0.2.1")).expect("a place");
        let _second = caps.enter(of("192.0.2.1")).expect("a place");
        assert!(caps.enter(of("::ffff:192.0.2.1")).is_none());
        let _other = caps.enter(of("192.0.2.2")).expect("a place");
        assert!(caps.enter(of("192.0.2.3")).is_none(), "the listener is full");
        drop(first);
        assert!(caps.enter(of("192.0.2.3")).is_some());
    }

    #[test]
    fn loopback_is_bounded_by_the_listener_only() {
        let caps = Caps::new(3, 1);
        let places: Vec<_> = (0..3).map(|_| caps.enter(of("127.0.0.1"))).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(caps.enter(of("127.0.0.1")).is_none());
        drop(places);
        assert!(lock(&caps.open).by_prefix.is_empty());
    }
}
