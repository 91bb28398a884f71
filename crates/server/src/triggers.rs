//! The triggers in force: a snapshot that is swapped whole, so that a request sees either the old
//! set or the new one.

mod beside;
mod build;
mod calendar;
mod definition;
mod diff;
mod folder;
mod loader;
mod route;
mod scheme;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hetuflow_core::{
    event::{Decision, DecisionOutcome},
    id::{JobId, Namespace, ScheduleId},
    job::JobSpec,
    schedule::{ClockSchedule, DaemonSchedule},
    status::Status,
    task::Telling,
    trigger::Trigger,
};
use hetuflow_store::{Store, StoreError, StoredTrigger};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

pub use beside::complete;
pub(crate) use build::live;
pub(crate) use definition::parse_text;
pub(crate) use folder::TriggerFolder;
pub(crate) use loader::Loader;
pub(crate) use route::{Route, route_key, route_of, routes};
pub use scheme::KnownSchemes;

/// How long a change waits for being in force before it is answered.
const REACH_WITHIN: Duration = Duration::from_secs(3);

/// A handle to the current set.
#[derive(Debug, Clone)]
pub struct Triggers {
    current: watch::Receiver<Arc<TriggerSet>>,
    /// Makes the loader look at the store before its time.
    reload: Arc<Notify>,
}

/// All triggers at one generation, parsed, with what the store knows of them.
#[derive(Debug, Default)]
pub struct TriggerSet {
    pub generation: i64,
    /// By `namespace/name`.
    pub live: BTreeMap<String, Live>,
    /// Every stored trigger, with broken ones and their problems, for lists and health.
    pub stored: Vec<StoredTrigger>,
    /// What keeps a stored trigger, or a part of it, from working here, by `namespace/name`: a secret that is
    /// not set, a path that another trigger has with other secrets.
    pub warnings: BTreeMap<String, Vec<String>>,
    /// Stored triggers whose text this server cannot read, by `namespace/name`: it is older, or newer, than the one that
    /// took them.
    pub(crate) unreadable: BTreeSet<String>,
    /// Why the folder could not be read as it is.
    pub folder_problems: Vec<String>,
    /// The types of ends of jobs that triggers ask for, by namespace.
    pub(crate) ends: BTreeMap<Namespace, BTreeSet<&'static str>>,
    /// What `POST /hooks/..` leads to, by [`route_key`].
    pub(crate) routes: BTreeMap<String, Route>,
    /// Where each schedule that a clock drives is found: its trigger in `live`, its place among the `clocks`.
    pub(crate) by_schedule: HashMap<ScheduleId, (String, usize)>,
    /// The same for daemons: their place among the `daemons`.
    pub(crate) by_daemon: HashMap<ScheduleId, (String, usize)>,
}

/// A trigger in force.
#[derive(Debug)]
pub struct Live {
    pub trigger: Trigger,
    pub revision: i64,
    pub job_id: JobId,
    /// The job's definition, whether inline or named.
    pub job: JobSpec,
    pub clocks: Vec<Clocked>,
    /// With the ids of their schedules.
    pub daemons: Vec<(ScheduleId, DaemonSchedule)>,
    /// Every schedule by its name: `webhook 1`, `file 2`.
    pub schedules: BTreeMap<String, ScheduleId>,
    /// What triggers of its namespace ask for of the ends of jobs.
    pub telling: Telling,
}

/// A schedule of a live trigger that a clock drives.
#[derive(Debug)]
pub struct Clocked {
    pub id: ScheduleId,
    pub schedule: ClockSchedule,
    /// The anchor of an interval.
    pub created_at: Timestamp,
    /// `namespace/name/schedule`: what it is called over all its versions.
    pub key: String,
}

impl Clocked {
    /// The first time after `after`; `None` when there is none any more.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.rule.next_after(self.created_at, after)
    }

    /// The first time that is not before `from`.
    pub(crate) fn next_from(&self, from: Timestamp) -> Option<Timestamp> {
        self.schedule.rule.next_from(self.created_at, from)
    }
}

impl Triggers {
    pub fn new(current: watch::Receiver<Arc<TriggerSet>>) -> Self {
        Self { current, reload: Arc::default() }
    }

    /// Waits until the set is at least as new as `generation`; the loader looks at once where it is not.
    pub(crate) async fn reach(&self, generation: i64) {
        let mut current = self.current.clone();
        if current.borrow().generation >= generation {
            return;
        }
        self.reload.notify_one();
        // It is stored already and will be in force soon; an error says that the loader has stopped, and
        // then the server stops too.
        let reached = current.wait_for(|set| set.generation >= generation);
        let _ = tokio::time::timeout(REACH_WITHIN, reached).await;
    }

    /// Everything that is stored now, as far as it works here; `None` where that takes longer than [`REACH_WITHIN`].
    pub(crate) async fn caught_up(&self, store: &dyn Store) -> Result<Option<Arc<TriggerSet>>, StoreError> {
        let generation = store.trigger_generation().await?;
        self.reach(generation).await;
        Ok(Some(self.current()).filter(|set| set.generation >= generation))
    }

    /// Secrets are resolved again soon.
    pub(crate) fn look_again(&self) {
        self.reload.notify_one();
    }

    pub fn current(&self) -> Arc<TriggerSet> {
        Arc::clone(&self.current.borrow())
    }

    /// Wakes whenever the set was swapped.
    pub fn subscribe(&self) -> watch::Receiver<Arc<TriggerSet>> {
        self.current.clone()
    }
}

impl Live {
    /// What it decided where no condition was asked.
    pub(crate) fn decision(&self, outcome: DecisionOutcome, reason: Option<String>) -> Decision {
        let trigger = self.trigger.name.to_string();
        Decision { trigger, outcome, revision: Some(self.revision), reason, clauses: Vec::new() }
    }

    /// The schedule of the `index`th `[on.kind]`, counted from 0.
    pub fn schedule_id(&self, kind: &str, index: usize) -> Option<ScheduleId> {
        self.schedules.get(&schedule_name(kind, index)).copied()
    }
}

/// The name under which the `index`th `[on.kind]` of a trigger is stored.
pub(crate) fn schedule_name(kind: &str, index: usize) -> String {
    format!("{kind} {}", index + 1)
}

impl TriggerSet {
    /// What triggers of the namespace ask for of the ends of jobs.
    pub(crate) fn telling(&self, namespace: &Namespace) -> Telling {
        match self.ends.get(namespace) {
            None => Telling::Nothing,
            Some(_) if self.asks_for(namespace, Status::Succeeded) => Telling::Everything,
            Some(_) => Telling::Trouble,
        }
    }

    /// Whether a trigger asks for such an end of a job.
    pub(crate) fn asks_for(&self, namespace: &Namespace, end: Status) -> bool {
        let asked = |kind| self.ends.get(namespace).is_some_and(|ends| ends.contains(kind));
        end.end_type().is_some_and(asked)
    }

    /// Whether a trigger that is not in force is stored all the same: it may be again.
    pub(crate) fn may_come(&self, key: &str) -> bool {
        self.stored.iter().any(|one| one.revision > 0 && build::key(one) == key)
    }

    /// In force or not.
    pub(crate) fn stored_as(&self, namespace: &Namespace, name: &str) -> Option<&StoredTrigger> {
        self.stored.iter().find(|one| one.namespace == *namespace && one.name == name)
    }

    /// The live trigger that owns this schedule, and the schedule.
    pub fn clocked(&self, id: ScheduleId) -> Option<(&Live, &Clocked)> {
        let (key, place) = self.by_schedule.get(&id)?;
        let live = self.live.get(key)?;
        Some((live, live.clocks.get(*place)?))
    }

    /// The live trigger whose daemon this is, and the daemon.
    pub fn daemon(&self, id: ScheduleId) -> Option<(&Live, &DaemonSchedule)> {
        let (key, place) = self.by_daemon.get(&id)?;
        let live = self.live.get(key)?;
        Some((live, &live.daemons.get(*place)?.1))
    }
}
