//! From local times to instants, around changes of the clocks too. The rule, which docs/triggers.md states:
//!
//! - a time that is *named* (`30 2 * * *`) fires once: at the first instant at which the clock shows it or has passed
//!   it. One that a gap leaves out therefore fires when the gap ends, one that occurs twice at the first of the two;
//! - a time that *repeats* through the hours (`*/15 * * * *`) fires whenever the clock shows it: never in a gap,
//!   in both passes of a repeated hour, so that the distance between fires is real time.
//!
//! The engine for cron lines knows only a clock that never changes; all zones are handled here, whatever the
//! length of a gap (in December 2011 a whole day of Pacific/Apia did not exist).

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

/// No change of the clocks moves them further than this.
const LONGEST_CHANGE: SignedDuration = SignedDuration::from_hours(48);

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// What a change of the clocks has to do with one fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockEffect {
    /// The time that was named does not exist on that day: the fire is where the gap ends.
    ShiftedFrom(DateTime),
    /// The local time occurs twice, this is the first one.
    FirstOfTwo,
    SecondOfTwo,
}

/// The first instant after `after` that stands for a local time which `next` names. `next` yields the first local
/// time after another one.
pub(super) fn next_named(
    zone: &TimeZone,
    after: Timestamp,
    next: impl Fn(DateTime) -> Option<DateTime>,
) -> Option<Timestamp> {
    let mut local = zone.to_datetime(after);
    loop {
        local = next(local)?;
        // In the second pass of a repeated hour its times are behind us.
        let at = first_instant(zone, local)?;
        if at > after {
            return Some(at);
        }
    }
}

/// The first instant after `after` at which the clock shows a time of `next`.
pub(super) fn next_shown(
    zone: &TimeZone,
    after: Timestamp,
    next: impl Fn(DateTime) -> Option<DateTime>,
) -> Option<Timestamp> {
    // Whole seconds; `from` itself is behind us.
    let mut from =
        Timestamp::from_second(after.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?).ok()?;
    loop {
        // From here to `change` the clock runs evenly.
        let start = from.checked_add(SECOND).ok()?;
        let offset = zone.to_offset(start);
        let change = zone.following(start).next().map(|change| change.timestamp());
        let shown = next(offset.to_datetime(from)).map(|local| offset.to_timestamp(local));
        let (at, change) = match (shown, change) {
            (Some(at), None) => return at.ok(),
            (Some(Ok(at)), Some(change)) if at < change => return Some(at),
            (None, None) => return None,
            (shown, Some(change)) => (shown.and_then(Result::ok), change),
        };
        from = change.checked_sub(SECOND).ok()?;
        // A change later than this repeats nothing that came before `start`: changes in between say nothing new.
        if change.duration_since(start) > LONGEST_CHANGE {
            from = from.max(at?.checked_sub(LONGEST_CHANGE).ok()?);
        }
    }
}

/// The instant at which the clock first shows `local` or has passed it.
pub(super) fn first_instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { before, after } => {
            let (earliest, latest) = (after.to_timestamp(local).ok()?, before.to_timestamp(local).ok()?);
            zone.following(earliest)
                .map(|change| change.timestamp())
                .take_while(|change| *change <= latest)
                .find(|change| {
                    gap_until(zone, *change).is_some_and(|(start, end)| start <= local && local < end)
                })
                .or(Some(latest))
        }
    }
}

/// The local times that a change of the clocks at `at` leaves out: from the first up to the other.
pub(super) fn gap_until(zone: &TimeZone, at: Timestamp) -> Option<(DateTime, DateTime)> {
    let before: Offset = zone.to_offset(at.checked_sub(SECOND).ok()?);
    let (start, end) = (before.to_datetime(at), zone.to_datetime(at));
    (start < end).then_some((start, end))
}

/// Which of two passes `at` is in.
pub(super) fn pass(zone: &TimeZone, at: Timestamp) -> Option<ClockEffect> {
    match zone.to_ambiguous_timestamp(zone.to_datetime(at)).offset() {
        AmbiguousOffset::Fold { before, .. } if zone.to_offset(at) == before => Some(ClockEffect::FirstOfTwo),
        AmbiguousOffset::Fold { .. } => Some(ClockEffect::SecondOfTwo),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => None,
    }
}
