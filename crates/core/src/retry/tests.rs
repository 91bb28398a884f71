//! The rules as tables.

use super::*;
use crate::outputs::Outputs;

fn policy(retry: Retry, on_lost: OnLost) -> RetryPolicy {
    RetryPolicy { max_retries: 5, interval: Duration::from_secs(10), retry, on_lost, daemon: false }
}

fn backoff(backoff: Backoff, jitter: bool) -> Retry {
    Retry { backoff, max_interval: Duration::from_mins(1), jitter, ..Retry::default() }
}

fn ended(reason: EndReason) -> Outcome {
    Outcome { reason, exit_code: None, signal: None, message: None, outputs: Outputs::new(), gone: false }
}

#[test]
fn waits() {
    let check = |retry: &Retry, attempt, random, expected: Option<i64>| {
        let next = policy(retry.clone(), OnLost::Hold).next(
            &Outcome::exit(1),
            attempt,
            Timestamp::UNIX_EPOCH,
            random,
        );
        assert_eq!(next.map(Timestamp::as_second), expected, "{retry:?} after attempt {attempt}");
    };
    let fixed = backoff(Backoff::Fixed, false);
    check(&fixed, 1, 0.0, Some(10));
    check(&fixed, 5, 0.0, Some(10));
    check(&fixed, 6, 0.0, None);
    let doubling = backoff(Backoff::Exponential, false);
    check(&doubling, 1, 0.0, Some(10));
    check(&doubling, 3, 0.0, Some(40));
    check(&doubling, 4, 0.0, Some(60));
    check(&backoff(Backoff::Fixed, true), 1, 0.0, Some(10));
    check(&backoff(Backoff::Fixed, true), 1, 0.5, Some(7));
    check(&backoff(Backoff::Exponential, true), 5, 1.0, Some(30));
    // Below the first wait, the longest one means nothing.
    check(&Retry { max_interval: Duration::from_secs(1), ..doubling }, 3, 0.0, Some(10));
}

#[test]
fn nothing_overflows() {
    let check = |interval: Duration, retry: Retry, attempt: u32, expected: Timestamp| {
        let policy =
            RetryPolicy { max_retries: u32::MAX, interval, retry, on_lost: OnLost::Hold, daemon: false };
        let next = policy.next(&Outcome::exit(1), attempt, Timestamp::UNIX_EPOCH, 1.0);
        assert_eq!(next, Some(expected));
    };
    let hour = Timestamp::from_second(3600).expect("a time");
    check(Duration::from_millis(1), Retry::default(), u32::MAX, hour);
    check(Duration::MAX, Retry { jitter: true, ..Retry::default() }, u32::MAX, Timestamp::MAX);
    check(Duration::ZERO, Retry { jitter: true, ..Retry::default() }, 9, Timestamp::UNIX_EPOCH);
}

#[test]
fn which_ends_are_repeated() {
    let check = |retry: &Retry, outcome: &Outcome, expected: bool| {
        let next = policy(retry.clone(), OnLost::Fail).next(outcome, 1, Timestamp::UNIX_EPOCH, 0.0);
        assert_eq!(next.is_some(), expected, "{retry:?} after {outcome:?}");
    };
    let unsaid = Retry::default();
    check(&unsaid, &Outcome::exit(0), false);
    for (reason, expected) in [
        (EndReason::Exit, true),
        (EndReason::Signal, true),
        (EndReason::Timeout, true),
        (EndReason::Spawn, true),
        (EndReason::Lost, false),
        (EndReason::Cancelled, false),
        (EndReason::Render, false),
    ] {
        check(&unsaid, &ended(reason), expected);
    }
    let only_timeouts = Retry { on: Some(vec![RetryReason::Timeout]), ..Retry::default() };
    check(&only_timeouts, &ended(EndReason::Timeout), true);
    check(&only_timeouts, &Outcome::exit(1), false);
    let only_75 = Retry { exit_codes: vec![75], ..Retry::default() };
    check(&only_75, &Outcome::exit(75), true);
    check(&only_75, &Outcome::exit(1), false);
    check(&only_75, &ended(EndReason::Signal), true);
    let but_64 = Retry { not_exit_codes: vec![64], ..Retry::default() };
    check(&but_64, &Outcome::exit(64), false);
    check(&but_64, &Outcome::exit(1), true);
    let never = Retry { on: Some(Vec::new()), exit_codes: vec![1], ..Retry::default() };
    check(&never, &Outcome::exit(1), false);
}

#[test]
fn what_is_lost_is_on_losts_word() {
    use RetryReason::{Exit, Lost};
    let lost = ended(EndReason::Lost);
    let check = |max_retries, on_lost, on: Option<&[RetryReason]>, expected: bool| {
        let retry = Retry { on: on.map(<[_]>::to_vec), ..Retry::default() };
        let job = JobSpec { max_retries, retry, on_lost, ..JobSpec::running("true") };
        let next = RetryPolicy::of(&job).next(&lost, 1, Timestamp::UNIX_EPOCH, 0.0);
        assert_eq!(next, expected.then_some(Timestamp::UNIX_EPOCH), "{on_lost:?} {on:?}");
    };
    check(0, None, None, false);
    check(1, None, None, true);
    check(1, None, Some(&[Exit]), false);
    check(1, None, Some(&[Exit, Lost]), true);
    check(0, None, Some(&[Lost]), false);
    check(1, Some(OnLost::Hold), None, false);
    check(1, Some(OnLost::Fail), None, false);
    check(1, Some(OnLost::Retry), Some(&[Exit]), true);
    check(0, Some(OnLost::Retry), None, false);
}
