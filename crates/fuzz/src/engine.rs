//! Makes bytes of seeds, hands them to a target, and looks for the fewest that still fail.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    time::{Duration, Instant},
};

use arbitrary::Unstructured;

use crate::targets::Target;

/// Bytes that one try may decide by, at most.
const MOST: u64 = 4096;

/// What was found.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) length: usize,
    pub(crate) what: String,
}

/// At least once. Yields how often.
pub(crate) fn for_as_long(target: &Target, seed: u64, time: Duration) -> Result<u64, Failure> {
    let begun = Instant::now();
    let mut tries = 0;
    quietly(|| {
        loop {
            attempt(target, seed.wrapping_add(tries))?;
            tries += 1;
            if begun.elapsed() >= time {
                return Ok(tries);
            }
        }
    })
}

#[cfg(test)]
pub(crate) fn tries(target: &Target, seed: u64, count: u64) -> Result<(), Failure> {
    quietly(|| (seed..seed + count).try_for_each(|seed| attempt(target, seed)))
}

/// The panic that counts is told at the end; those on the way to the shortest are not.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let before = take_hook();
    set_hook(Box::new(|_| {}));
    let done = work();
    set_hook(before);
    done
}

fn attempt(target: &Target, seed: u64) -> Result<(), Failure> {
    let bytes = bytes(seed);
    let Some(mut what) = fails(target, &bytes) else { return Ok(()) };
    let mut length = bytes.len();
    let mut step = length / 2;
    while step > 0 {
        while length > step
            && let Some(shorter) = fails(target, &bytes[..length - step])
        {
            (length, what) = (length - step, shorter);
        }
        step /= 2;
    }
    Err(Failure { seed, length, what })
}

fn fails(target: &Target, bytes: &[u8]) -> Option<String> {
    // Bytes that do not suffice are no try.
    let attempt = || {
        let _ = (target.attempt)(&mut Unstructured::new(bytes));
    };
    let panicked = catch_unwind(AssertUnwindSafe(attempt)).err()?;
    let text = panicked.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panicked.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

/// `SplitMix64`: every seed has a stream of its own.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let length = usize::try_from(16 + next() % MOST).unwrap_or(16);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
