//! Room for bodies: what has come of them, not what their heads claim, in all and of one sender. Nobody waits for
//! room: bodies that are half there would wait for each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{api::error::ApiError, listen::Prefix};

/// The part of all room that one sender may take, at least one body.
const OF_ONE_SENDER: u64 = 8;

pub(crate) struct Room {
    max: u64,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: u64,
    /// Only senders of whom there are bytes.
    by_sender: HashMap<Prefix, u64>,
}

/// What one body takes, until it is dropped.
pub(super) struct Share {
    sender: Prefix,
    bytes: u64,
    max: u64,
    max_of_sender: u64,
    taken: Arc<Mutex<Taken>>,
}

impl Room {
    pub(super) fn new(max: u32) -> Self {
        Self { max: max.into(), taken: Arc::default() }
    }

    /// For a body of this sender, which may become so large; refused at once where it cannot be had now.
    pub(super) fn enter(&self, sender: Prefix, size: u64) -> Result<Share, ApiError> {
        let max_of_sender = match sender {
            // Everybody behind a local proxy.
            Prefix::Loopback => self.max,
            Prefix::V4(_) | Prefix::V6(_) => (self.max / OF_ONE_SENDER).max(size),
        };
        let mut share =
            Share { sender, bytes: 0, max: self.max, max_of_sender, taken: Arc::clone(&self.taken) };
        share.grow(size)?;
        share.shrink();
        Ok(share)
    }
}

impl Share {
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), ApiError> {
        let mut taken = lock(&self.taken);
        let of_sender = taken.by_sender.get(&self.sender).copied().unwrap_or(0);
        if bytes > self.max.saturating_sub(taken.all) || bytes > self.max_of_sender.saturating_sub(of_sender)
        {
            return Err(ApiError::Unavailable("too many deliveries are being received".to_owned()));
        }
        if bytes > 0 {
            taken.all += bytes;
            taken.by_sender.insert(self.sender, of_sender + bytes);
            self.bytes += bytes;
        }
        Ok(())
    }

    fn shrink(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= self.bytes;
        match taken.by_sender.get_mut(&self.sender) {
            Some(bytes) if *bytes > self.bytes => *bytes -= self.bytes,
            Some(_) | None => {
                taken.by_sender.remove(&self.sender);
            }
        }
        self.bytes = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shrink();
        }
    }
}

/// The counts are changed together; a panic elsewhere cannot leave them torn.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> Prefix {
        Prefix::of(ip.parse().expect("an address"))
    }

    #[test]
    fn what_is_claimed_takes_nothing() {
        let room = Room::new(100);
        let claimed: Vec<Share> = (0..64).map(|_| room.enter(of("127.0.0.1"), 100).expect("room")).collect();
        let mut share = room.enter(of("192.0.2.1"), 100).expect("room");
        share.grow(100).expect("room for a whole body");
        assert!(room.enter(of("192.0.2.2"), 1).is_err(), "now it is full");
        drop((claimed, share));
        assert!(room.enter(of("192.0.2.2"), 100).is_ok());
        assert!(lock(&room.taken).by_sender.is_empty());
        assert!(room.enter(of("192.0.2.2"), 101).is_err());
    }

    #[test]
    fn one_sender_takes_a_part() {
        let room = Room::new(800);
        let mut first = room.enter(of("192.0.2.1"), 60).expect("room");
        let mut second = room.enter(of("192.0.2.1"), 60).expect("room");
        first.grow(60).expect("room");
        second.grow(40).expect("room");
        assert!(second.grow(1).is_err());
        let mut other = room.enter(of("192.0.2.2"), 60).expect("room");
        other.grow(60).expect("room");
        let mut large = room.enter(of("192.0.2.3"), 300).expect("a body that a hook allows can always come");
        large.grow(300).expect("room");
        let mut local = room.enter(of("::1"), 300).expect("room");
        local.grow(300).expect("room");
    }
}
