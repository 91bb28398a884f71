//! A schedule that a clock drives: when it fires, and what becomes of each fire.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use super::{
    ClockEffect, CronSchedule, Deadline, DuringBlackout, FirePolicy, IntervalSchedule, OnceSchedule,
    ScheduleKind,
};

const JUST: SignedDuration = SignedDuration::from_nanos(1);

#[derive(Debug, Clone)]
pub struct ClockSchedule {
    /// `cron 1`, `interval 2`: its place among those of its kind.
    pub name: String,
    pub rule: ClockRule,
    pub policy: FirePolicy,
    /// Nothing runs at its times: files are counted that must have come.
    pub deadline: Option<Deadline>,
}

/// The times of a schedule.
#[derive(Debug, Clone)]
pub struct ClockRule {
    pub rhythm: Rhythm,
    /// The first time that counts; an interval is counted from it.
    pub start: Option<Timestamp>,
    /// The last time that counts.
    pub end: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub enum Rhythm {
    Cron(CronSchedule),
    /// So long before each time of the line.
    Ahead {
        cron: CronSchedule,
        by: Duration,
    },
    Interval(IntervalSchedule),
    Once(OnceSchedule),
}

impl From<Rhythm> for ClockRule {
    /// For ever.
    fn from(rhythm: Rhythm) -> Self {
        Self { rhythm, start: None, end: None }
    }
}

/// One of the next fires.
#[derive(Debug, Clone, PartialEq)]
pub struct Upcoming {
    pub at: Timestamp,
    /// The same instant on the schedule's own clock.
    pub local: Zoned,
    pub effect: Option<ClockEffect>,
    /// It is in a blackout that ends here.
    pub blackout_until: Option<Timestamp>,
    /// When its run starts: later than `at` by jitter or a blackout; `None` when it will not run.
    pub starts_at: Option<Timestamp>,
}

impl ClockRule {
    #[must_use]
    pub const fn kind(&self) -> ScheduleKind {
        match self.rhythm {
            Rhythm::Cron(_) | Rhythm::Ahead { .. } => ScheduleKind::Cron,
            Rhythm::Interval(_) => ScheduleKind::Interval,
            Rhythm::Once(_) => ScheduleKind::Once,
        }
    }

    /// The first time after `after`; `None` when there is none any more.
    #[must_use]
    pub fn next_after(&self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        // Just before it, so that the start itself counts.
        let after = self.start.and_then(|start| start.checked_sub(JUST).ok()).map_or(after, |s| s.max(after));
        let next = match &self.rhythm {
            Rhythm::Cron(cron) => cron.next_after(after),
            Rhythm::Ahead { cron, by } => {
                let by = SignedDuration::try_from(*by).ok()?;
                cron.next_after(after.checked_add(by).ok()?)?.checked_sub(by).ok()
            }
            Rhythm::Interval(interval) => match self.start {
                Some(start) if after < start => Some(start),
                start => interval.next_after(start.unwrap_or(anchor), after),
            },
            Rhythm::Once(once) => once.next_after(after),
        };
        next.filter(|next| self.end.is_none_or(|end| *next <= end))
    }

    /// The first time that is not before `from`.
    #[must_use]
    pub fn next_from(&self, anchor: Timestamp, from: Timestamp) -> Option<Timestamp> {
        self.next_after(anchor, from.checked_sub(JUST).ok()?)
    }

    #[must_use]
    pub fn zone(&self) -> TimeZone {
        match &self.rhythm {
            Rhythm::Cron(cron) | Rhythm::Ahead { cron, .. } => cron.zone().clone(),
            Rhythm::Interval(_) => TimeZone::UTC,
            Rhythm::Once(once) => once.zone().clone(),
        }
    }

    /// What a change of the clocks has to do with the fire at `at`.
    #[must_use]
    pub fn effect(&self, at: Timestamp) -> Option<ClockEffect> {
        match &self.rhythm {
            Rhythm::Cron(cron) => cron.effect(at),
            Rhythm::Interval(_) | Rhythm::Ahead { .. } => None,
            Rhythm::Once(once) => once.effect(),
        }
    }
}

impl ClockSchedule {
    /// At most `count` fires that are not before `from`. `seed` is the schedule's own, for its jitter.
    #[must_use]
    pub fn upcoming(&self, anchor: Timestamp, seed: &str, from: Timestamp, count: usize) -> Vec<Upcoming> {
        let first = self.rule.next_from(anchor, from);
        let mut delayed_until = None;
        std::iter::successors(first, |at| self.rule.next_after(anchor, *at))
            .take(count)
            .map(|at| {
                let blackout_until = self.policy.blackout_end(at);
                let starts_at = match blackout_until {
                    None => Some(at),
                    // Only the first of one blackout is moved to its end.
                    Some(end)
                        if self.policy.during_blackout == DuringBlackout::Delay
                            && delayed_until < Some(end) =>
                    {
                        delayed_until = Some(end);
                        Some(end)
                    }
                    Some(_) => None,
                };
                let starts_at = starts_at.map(|start| self.start(anchor, seed, at, start));
                let local = at.to_zoned(self.rule.zone());
                Upcoming { at, local, effect: self.rule.effect(at), blackout_until, starts_at }
            })
            .collect()
    }

    /// When the run of `at` starts, which without jitter would start at `start`.
    #[must_use]
    pub fn start(&self, anchor: Timestamp, seed: &str, at: Timestamp, start: Timestamp) -> Timestamp {
        if self.policy.jitter.is_zero() {
            return start;
        }
        let jitter = self.policy.jittered(seed, at, self.rule.next_after(anchor, at)).duration_since(at);
        start.checked_add(jitter).unwrap_or(start)
    }
}
