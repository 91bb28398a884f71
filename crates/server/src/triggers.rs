//! The triggers in force: a snapshot that is swapped whole, so that a request sees either the old
//! set or the new one.

use std::{collections::BTreeMap, sync::Arc};

use hetuflow_core::{
    id::{JobId, ScheduleId},
    job::JobSpec,
    schedule::{CronSchedule, IntervalSchedule},
    trigger::Trigger,
};
use hetuflow_store::StoredTrigger;
use jiff::Timestamp;
use tokio::sync::watch;

/// A handle to the current set.
#[derive(Debug, Clone)]
pub struct Triggers {
    current: watch::Receiver<Arc<TriggerSet>>,
}

/// All triggers at one generation, parsed, with what the store knows of them.
#[derive(Debug, Default)]
pub struct TriggerSet {
    pub generation: i64,
    /// By `namespace/name`.
    pub live: BTreeMap<String, Live>,
    /// Every stored trigger, with broken ones and their problems, for lists and health.
    pub stored: Vec<StoredTrigger>,
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
}

/// A schedule of a live trigger that a clock drives.
#[derive(Debug)]
pub struct Clocked {
    pub id: ScheduleId,
    pub name: String,
    pub rule: ClockRule,
    /// The anchor of an interval.
    pub created_at: Timestamp,
}

#[derive(Debug)]
pub enum ClockRule {
    Cron(CronSchedule),
    Interval(IntervalSchedule),
}

impl Triggers {
    pub fn new(current: watch::Receiver<Arc<TriggerSet>>) -> Self {
        Self { current }
    }

    pub fn current(&self) -> Arc<TriggerSet> {
        Arc::clone(&self.current.borrow())
    }

    /// Wakes whenever the set was swapped.
    pub fn subscribe(&self) -> watch::Receiver<Arc<TriggerSet>> {
        self.current.clone()
    }
}

impl TriggerSet {
    /// The live trigger that owns this schedule, and the schedule.
    pub fn clocked(&self, id: ScheduleId) -> Option<(&Live, &Clocked)> {
        self.live.values().find_map(|live| live.clocks.iter().find(|c| c.id == id).map(|clock| (live, clock)))
    }
}
