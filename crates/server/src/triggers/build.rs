//! From what the store holds to a [`TriggerSet`]: texts are parsed again, jobs looked up, secrets resolved.

use hetuflow_core::{
    id::{JobId, ScheduleId},
    job::JobSpec,
    schedule::{ClockSchedule, DaemonSchedule},
    task::Telling,
    trigger::{self, Trigger, TriggerJob},
};
use hetuflow_store::{Store, StoreError, StoredTrigger};
use jiff::Timestamp;

use super::{Clocked, KnownSchemes, Live, Route, TriggerSet, route};
use crate::secrets::Vault;

pub(super) async fn build(store: &dyn Store, vault: &Vault) -> Result<TriggerSet, StoreError> {
    // Read before the triggers: if one changes in between, the next look at the generation notices.
    let generation = store.trigger_generation().await?;
    let stored = store.triggers().await?;
    let mut set = TriggerSet { generation, ..TriggerSet::default() };
    for one in stored.iter().filter(|one| one.revision > 0) {
        let key = key(one);
        match live(store, one).await? {
            Ok(live) => {
                let places = live.clocks.iter().enumerate();
                set.by_schedule.extend(places.map(|(place, clock)| (clock.id, (key.clone(), place))));
                if !live.trigger.enabled {
                    set.warn(key.clone(), "it is disabled (enabled = false): nothing starts it".to_owned());
                }
                let places = live.daemons.iter().enumerate();
                set.by_daemon.extend(places.map(|(place, (id, _))| (*id, (key.clone(), place))));
                set.live.insert(key, live);
            }
            Err(problem) => {
                if parse_stored(one).is_err() {
                    set.unreadable.insert(key.clone());
                }
                set.warn(key, problem);
            }
        }
    }
    set.stored = stored;
    set.tell();
    add_routes(&mut set, vault).await;
    Ok(set)
}

fn observing(until: Option<Timestamp>) -> String {
    let until = until.map(|until| until.to_string()).unwrap_or_default();
    format!("it only observes until {until}: what is not authentic is taken and recorded, and starts nothing")
}

pub(super) fn key(stored: &StoredTrigger) -> String {
    format!("{}/{}", stored.namespace, stored.name)
}

impl TriggerSet {
    /// Every hook that only observes now.
    pub(super) fn warn_of_observers(&mut self, now: Timestamp) {
        let observers: Vec<(String, String)> = self
            .routes
            .values()
            .filter(|route| route.observes(now))
            .flat_map(|route| route.members.keys().map(|key| (key.clone(), observing(route.observe_until))))
            .collect();
        for (key, warning) in observers {
            self.warn(key, warning);
        }
    }

    /// Where a trigger asks for ends of jobs, those of all jobs of its namespace are told.
    fn tell(&mut self) {
        for live in self.live.values() {
            let mut ends = live.trigger.ends().peekable();
            if ends.peek().is_some() {
                self.ends.entry(live.trigger.namespace.clone()).or_default().extend(ends);
            }
        }
        for (key, live) in std::mem::take(&mut self.live) {
            let telling = self.telling(&live.trigger.namespace);
            self.live.insert(key, Live { telling, ..live });
        }
    }

    pub(super) fn warn(&mut self, key: String, problem: String) {
        self.warnings.entry(key).or_default().push(problem);
    }
}

/// A trigger as its stored text says, or what keeps it from working.
pub(crate) async fn live(
    store: &dyn Store,
    stored: &StoredTrigger,
) -> Result<Result<Live, String>, StoreError> {
    let trigger = match parse_stored(stored) {
        Ok(trigger) => trigger,
        Err(problem) => return Ok(Err(problem)),
    };
    let (job_id, job) = match find_job(store, stored, &trigger).await? {
        Ok(found) => found,
        Err(problem) => return Ok(Err(problem)),
    };
    let schedules = stored.schedules.iter().map(|schedule| (schedule.name.clone(), schedule.id)).collect();
    let (clocks, daemons) = (clocks(&trigger, stored), daemons(&trigger, stored));
    Ok(Ok(Live {
        trigger,
        revision: stored.revision,
        job_id,
        job,
        clocks,
        daemons,
        schedules,
        telling: Telling::Nothing,
    }))
}

/// A text that parsed when it was applied may not parse in a newer or older server.
fn parse_stored(stored: &StoredTrigger) -> Result<Trigger, String> {
    let triggers =
        trigger::parse(&stored.origin, &stored.name, &stored.namespace, &stored.text, &KnownSchemes)
            .map_err(|problems| problems.to_string())?;
    triggers
        .into_iter()
        .find(|trigger| trigger.name.as_str() == stored.name)
        .ok_or_else(|| format!("its stored text declares no trigger {:?}", stored.name))
}

async fn find_job(
    store: &dyn Store,
    stored: &StoredTrigger,
    trigger: &Trigger,
) -> Result<Result<(JobId, JobSpec), String>, StoreError> {
    let name = match (&trigger.job, stored.job_id) {
        (TriggerJob::Inline(job), Some(id)) => return Ok(Ok((id, job.clone()))),
        (TriggerJob::Inline(_), None) => stored.name.as_str(),
        (TriggerJob::Named(name), _) => name.as_str(),
    };
    match store.job_named(&trigger.namespace, name).await {
        Ok(job) => Ok(Ok((job.id, job.config))),
        Err(StoreError::NotFound) => Ok(Err(format!("there is no job {name:?}"))),
        Err(error) => Err(error),
    }
}

fn clocks(trigger: &Trigger, stored: &StoredTrigger) -> Vec<Clocked> {
    let clocked = |schedule: &ClockSchedule| {
        let found = stored.schedules.iter().find(|stored| stored.name == schedule.name)?;
        let key = format!("{}/{}", trigger.key(), schedule.name);
        Some(Clocked { id: found.id, created_at: found.created_at, key, schedule: schedule.clone() })
    };
    trigger.clocks.iter().filter_map(clocked).collect()
}

fn daemons(trigger: &Trigger, stored: &StoredTrigger) -> Vec<(ScheduleId, DaemonSchedule)> {
    let found = |daemon: &DaemonSchedule| {
        let found = stored.schedules.iter().find(|stored| stored.name == daemon.name)?;
        Some((found.id, daemon.clone()))
    };
    trigger.daemons.iter().filter_map(found).collect()
}

async fn add_routes(set: &mut TriggerSet, vault: &Vault) {
    let (mut routes, problems) = route::routes(&set.live);
    let vault = vault.clone();
    let resolved = tokio::task::spawn_blocking(move || {
        for route in routes.values_mut() {
            route.resolve(&vault);
        }
        routes
    });
    // The only way to fail is a panic in there; without routes every delivery is refused, not lost.
    set.routes = resolved.await.unwrap_or_default();
    let missing = set.routes.values().flat_map(Route::member_problems);
    for (key, problem) in problems.into_iter().chain(missing.collect::<Vec<_>>()) {
        set.warn(key, problem);
    }
}
