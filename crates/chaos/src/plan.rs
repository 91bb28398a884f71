//! What will be done to the product, out of a seed: one lane of faults for each thing that can break. The same seed
//! is the same plan, whatever the machine makes of it.

use std::time::Duration;

use crate::{cable::Passage, history::FaultKind, random::Random};

/// How often each kind of fault must happen before a run may end; or for how long it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    For(Duration),
    Counts(Goals),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Goals {
    pub(crate) server_kills: u32,
    pub(crate) agent_kills: u32,
    pub(crate) postgres_restarts: u32,
    pub(crate) partitions: u32,
    pub(crate) freezes: u32,
    pub(crate) absences: u32,
}

/// One thing that can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Server(usize),
    Agent(usize),
    Cable(usize),
    Postgres,
    /// Whoever's turn it is, while everything else is left alone.
    Anyone,
}

/// One thing to do: wait, break it, leave it broken, mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) fault: Planned,
    pub(crate) broken: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planned {
    Kill,
    /// What it had to say is held back first, for long enough that it must have written it down.
    CutOffAndKill,
    Freeze,
    Restart,
    Partition(Passage),
    /// The one whose turn it is stays away for longer than anybody waits for it.
    Absence(u64),
}

/// The faults of one target, without end.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) target: Target,
    random: Random,
    /// Kills and freezes take turns as these numbers say.
    weights: (u64, u64),
    pace: Pace,
}

/// How close together faults are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The pauses of the plan.
    Steady,
    /// Half of them, to get through many faults.
    Fast,
}

impl Planned {
    pub(crate) const fn kind(self) -> FaultKind {
        match self {
            Self::Kill | Self::CutOffAndKill => FaultKind::Kill,
            Self::Freeze => FaultKind::Freeze,
            Self::Restart => FaultKind::Restart,
            Self::Partition(_) => FaultKind::Partition,
            Self::Absence(_) => FaultKind::Absence,
        }
    }
}

impl Lane {
    /// `weights` is how many kills come with how many freezes, on average.
    pub(crate) fn new(seed: u64, target: Target, weights: (u64, u64), pace: Pace) -> Self {
        Self { target, random: Random::new(seed, &target.name()), weights, pace }
    }
}

impl Iterator for Lane {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let random = &mut self.random;
        // Mostly close together; now and then a calm, so that what takes longer is met too.
        let calm = random.one_in(15);
        let pause = if calm { random.millis(4_000..8_000) } else { random.millis(300..2_000) };
        let pause = if self.pace == Pace::Fast { pause / 2 } else { pause };
        let step = match self.target {
            Target::Agent(_) if random.one_in(12) => {
                Step { pause, fault: Planned::CutOffAndKill, broken: random.millis(5_000..7_000) }
            }
            Target::Server(_) | Target::Agent(_) => {
                let (kills, freezes) = self.weights;
                if random.below(kills + freezes) < kills {
                    Step { pause, fault: Planned::Kill, broken: random.millis(0..300) }
                } else {
                    // Beyond the session's lease now and then; beyond everybody's patience is an absence.
                    Step { pause, fault: Planned::Freeze, broken: random.millis(200..5_000) }
                }
            }
            Target::Postgres => {
                Step { pause: pause * 3 / 2, fault: Planned::Restart, broken: Duration::ZERO }
            }
            Target::Cable(_) => {
                let ways = [Passage::Held, Passage::HeldUp, Passage::HeldDown, Passage::Cut];
                let way = ways[usize::try_from(random.below(4)).unwrap_or(0)];
                Step { pause: pause * 2, fault: Planned::Partition(way), broken: random.millis(300..5_000) }
            }
            Target::Anyone => {
                let fault = Planned::Absence(random.next());
                Step { pause: pause * 40, fault, broken: Duration::ZERO }
            }
        };
        Some(step)
    }
}

impl Target {
    /// As faults are recorded, and agents call themselves.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Server(n) => format!("server-{n}"),
            Self::Agent(n) => format!("agent-{n}"),
            Self::Cable(n) => format!("cable-{n}"),
            Self::Postgres => "postgres".to_owned(),
            Self::Anyone => "anyone".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan() {
        let plan =
            |seed, target| -> Vec<Step> { Lane::new(seed, target, (4, 1), Pace::Steady).take(50).collect() };
        assert_eq!(plan(1, Target::Server(0)), plan(1, Target::Server(0)));
        assert_ne!(plan(1, Target::Server(0)), plan(2, Target::Server(0)));
        assert_ne!(plan(1, Target::Server(0)), plan(1, Target::Server(1)));
        let kinds: Vec<FaultKind> = plan(1, Target::Server(0)).iter().map(|step| step.fault.kind()).collect();
        assert!(kinds.contains(&FaultKind::Kill) && kinds.contains(&FaultKind::Freeze), "{kinds:?}");
    }
}
