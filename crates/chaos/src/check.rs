//! The judge: pure functions over the histories and the final state. Nothing here starts, waits or asks; the
//! supervisor calls [`judge`] after a run, and `hetuflow-chaos check FOLDER` calls it again whenever somebody likes.

mod clock;
mod daemons;
mod deliveries;
mod effects;
mod ends;
mod files;
mod ledger;
mod lost;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    time::Duration,
};

use crate::{
    effect::EFFECTS,
    history::{self, Drop, Effect, Fault, GivenUp, Operation, Phase},
    state::{EventRow, State, TaskRow},
};

pub(crate) use daemons::each_lives;

pub(crate) const OPERATIONS: &str = "operations.jsonl";
pub(crate) const DROPS: &str = "drops.jsonl";
pub(crate) const FAULTS: &str = "faults.jsonl";
pub(crate) const GIVEN_UP: &str = "given_up.jsonl";
pub(crate) const STATE: &str = "state.json";

/// Everything that is known about a run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Run {
    pub(crate) operations: Vec<Operation>,
    pub(crate) drops: Vec<Drop>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) given_up: Vec<GivenUp>,
    pub(crate) state: State,
}

/// A promise that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acknowledged event, or what had to follow from it, is not there.
    Lost,
    /// One delivery, file or time became two events, or one event's job that runs once ran twice.
    Doubled,
    /// One attempt started twice.
    DupSpawn,
    /// An effect without a cause.
    Phantom,
    /// A task that has not ended in time.
    Unsettled,
    /// A process that outlives its attempt.
    Orphan,
    /// The sums do not agree.
    Ledger,
    /// Two attempts of one task at the same time.
    SideBySide,
    /// An end that neither the job's plan nor a fault explains.
    Unexplained,
    /// A daemon that was started again without its wait.
    TooSoon,
    /// A time at which a schedule did not fire, and should have.
    Missed,
    /// A point of the walk to which nothing led.
    NotReached,
    /// The result of an attempt counted although another had taken its place.
    Stale,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// What a run comes to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: Counts,
    /// Known of a run that was just made.
    pub(crate) recovery: Option<Recovery>,
}

/// How long it took after the last fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    /// Until every delivery had its answer.
    pub(crate) answered: Duration,
    pub(crate) settled: Duration,
}

/// What a run consisted of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) deliveries: usize,
    pub(crate) acknowledged: usize,
    /// Tries whose outcome the sender could not know.
    pub(crate) unknown: usize,
    pub(crate) duplicates: usize,
    pub(crate) files: usize,
    pub(crate) fires: usize,
    /// Processes of daemons.
    pub(crate) runs: usize,
    /// Times passed over while nothing could fire, as the policy for missed times says.
    pub(crate) passed_over: usize,
    pub(crate) tasks: usize,
    /// Tasks whose end was told.
    pub(crate) ends: usize,
    pub(crate) effects: usize,
    /// Attempts that a fault ended, each of which is recorded as lost.
    pub(crate) lost_attempts: usize,
    /// Tasks that ended as lost because their job says that they must not be repeated.
    pub(crate) held: usize,
}

/// The histories with their indexes.
pub(crate) struct Case<'a> {
    pub(crate) run: &'a Run,
    pub(crate) events: HashMap<&'a str, &'a EventRow>,
    pub(crate) tasks: HashMap<&'a str, &'a TaskRow>,
    pub(crate) tasks_of: HashMap<&'a str, Vec<&'a TaskRow>>,
    /// First and last line of each process, by task.
    pub(crate) starts: BTreeMap<&'a str, Vec<&'a Effect>>,
    pub(crate) ends: HashMap<&'a str, &'a Effect>,
    violations: Vec<Violation>,
    pub(crate) counts: Counts,
}

/// Looks at everything.
pub(crate) fn judge(run: &Run) -> Verdict {
    let mut case = Case::new(run);
    deliveries::check(&mut case);
    files::check(&mut case);
    clock::check(&mut case);
    daemons::check(&mut case);
    ends::check(&mut case);
    effects::check(&mut case);
    lost::check(&mut case);
    ledger::check(&mut case);
    let Case { mut violations, counts, .. } = case;
    violations.sort_by_key(|violation| violation.kind);
    Verdict { violations, counts, recovery: None }
}

impl<'a> Case<'a> {
    fn new(run: &'a Run) -> Self {
        let mut tasks_of: HashMap<&str, Vec<&TaskRow>> = HashMap::new();
        for task in &run.state.tasks {
            tasks_of.entry(&task.event_id).or_default().push(task);
        }
        let mut starts: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
        for effect in run.effects.iter().filter(|effect| effect.phase == Phase::Start) {
            starts.entry(&effect.task).or_default().push(effect);
        }
        let ends = run.effects.iter().filter(|effect| effect.phase == Phase::End);
        Self {
            run,
            events: run.state.events.iter().map(|event| (event.id.as_str(), event)).collect(),
            tasks: run.state.tasks.iter().map(|task| (task.id.as_str(), task)).collect(),
            tasks_of,
            starts,
            ends: ends.map(|effect| (effect.instance.as_str(), effect)).collect(),
            violations: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn report(&mut self, kind: Kind, what: impl Into<String>) {
        self.violations.push(Violation { kind, what: what.into() });
    }

    pub(crate) fn events_of(&self, kind: &str) -> Vec<&'a EventRow> {
        let accepted = |event: &&EventRow| {
            event.kind == kind && !["rejected", "ping"].contains(&event.verdict.verdict.as_str())
        };
        self.run.state.events.iter().filter(accepted).collect()
    }

    pub(crate) fn starts(&self, task: &str) -> &[&'a Effect] {
        self.starts.get(task).map_or(&[], Vec::as_slice)
    }
}

impl Run {
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            operations: history::read(&folder.join(OPERATIONS))?,
            drops: history::read(&folder.join(DROPS))?,
            effects: history::read(&folder.join(EFFECTS))?,
            faults: history::read(&folder.join(FAULTS))?,
            given_up: history::read(&folder.join(GIVEN_UP))?,
            state: State::load(&folder.join(STATE))?,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::DupSpawn => "started twice",
            Self::Phantom => "phantom",
            Self::Unsettled => "unsettled",
            Self::Orphan => "orphan",
            Self::Ledger => "ledger",
            Self::SideBySide => "side by side",
            Self::Unexplained => "unexplained",
            Self::TooSoon => "too soon",
            Self::Missed => "missed time",
            Self::NotReached => "not reached",
            Self::Stale => "stale",
        })
    }
}
