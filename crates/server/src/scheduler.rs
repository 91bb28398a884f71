//! Fires schedules when their time comes (cron lines, intervals, single times), and keeps daemons running. Clocks enter
//! the walk at its step 4 here.
//!
//! Times are kept by the store, and each fire is one guarded statement there, so any number of servers may run this
//! loop: a (schedule, time) pair fires once. The loop sleeps to the next time and not by a tick, so that a fire is
//! late by milliseconds only.

mod daemons;
mod deadline;
mod fire;
mod late;
#[cfg(test)]
mod tests;
mod times;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hetuflow_failpoint::failpoint;
use hetuflow_store::{Fire, Fired, Queue, StoreError};
use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{AppState, ingest::chain, triggers::TriggerSet};

/// Schedules that are looked at together.
const BATCH: u32 = 1000;

/// Fires that are stored in one transaction.
const TOGETHER: usize = 100;

/// The longest sleep: a wall clock can be set, and a machine can be suspended.
const LONGEST: Duration = Duration::from_secs(30);

/// The shortest one, for a schedule that is due and cannot be fired here (its trigger was not read yet).
const SHORTEST: Duration = Duration::from_secs(1);

/// Between two looks at daemons that are due to changes of tasks, at least: on a busy server some task changes all the
/// time. It is a part of the wait before a restart.
const DAEMONS_EVERY: Duration = Duration::from_millis(200);

/// Between two looks at deadlines that were missed, at least.
const LATE_EVERY: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// All that can wake the loop.
#[derive(Debug)]
enum Wake {
    /// A schedule is due, or it is time to look anyway.
    Time,
    /// Triggers were added, changed or removed.
    Triggers,
    /// Some task changed while others wait for their turn, or a daemon is kept running.
    Tasks,
    Shutdown,
}

/// Runs until `shutdown`.
pub(crate) async fn run(state: AppState, shutdown: CancellationToken) {
    let mut triggers = state.triggers.subscribe();
    let mut tasks = state.store.task_changes();
    let (mut pause, mut follow) = (None, None);
    let mut late: Option<Instant> = None;
    loop {
        // Seen as of now: a change while we look wakes us again.
        triggers.mark_unchanged();
        tasks.mark_unchanged();
        let sleep = match tick(&state).await {
            Ok(looked) => {
                follow = looked.follow();
                if pause.take().is_some() {
                    tracing::info!("schedules fire again");
                }
                if late.is_none_or(|at| at.elapsed() >= LATE_EVERY) {
                    late = Some(Instant::now());
                    look_at_late(&state).await;
                }
                until(looked, state.clock.now())
            }
            Err(error) => {
                if pause.is_none() {
                    tracing::error!(error = chain(&error), "schedules cannot be fired");
                }
                let longer = pause.map_or(FIRST_PAUSE, |pause: Duration| (pause * 2).min(LONGEST_PAUSE));
                pause = Some(longer);
                longer.mul_f64(rand::random_range(0.5..1.0))
            }
        };
        let tasks = follow.map(|after| (&mut tasks, after));
        match wake(&mut triggers, tasks, sleep, &shutdown).await {
            Wake::Time | Wake::Triggers | Wake::Tasks => {}
            Wake::Shutdown => return,
        }
    }
}

async fn look_at_late(state: &AppState) {
    if let Err(error) = late::look(state).await {
        tracing::warn!(error = chain(&error), "deadlines that were missed cannot be followed");
    }
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Schedules that fired, or were moved on.
    pub(crate) moved: usize,
    /// The next time of any schedule: not after now when there is more to do.
    pub(crate) next: Option<Timestamp>,
    /// Whether runs wait for the end of others: only then the loop follows the ends of tasks.
    pub(crate) queue: Queue,
    /// Likewise.
    pub(crate) daemons: Daemons,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemons {
    None,
    Kept,
}

impl Looked {
    /// How soon a change of a task is worth a look; `None`: never.
    fn follow(self) -> Option<Duration> {
        match (self.queue, self.daemons) {
            (Queue::Waiting, _) => Some(Duration::ZERO),
            (Queue::Empty, Daemons::Kept) => Some(DAEMONS_EVERY),
            (Queue::Empty, Daemons::None) => None,
        }
    }
}

/// What was done in one look. One thing that fails must not hold up the others.
#[derive(Debug, Default)]
struct Done {
    moved: usize,
    failed: Option<StoreError>,
}

impl Done {
    fn add(&mut self, done: Result<usize, StoreError>) {
        match done {
            Ok(moved) => self.moved += moved,
            Err(error) => self.failed = Some(error),
        }
    }
}

/// Looks after daemons, and fires what is due, each schedule once.
pub(crate) async fn tick(state: &AppState) -> Result<Looked, StoreError> {
    let mut done = Done::default();
    // First, because a daemon may be due by it.
    done.add(daemons::tend(state).await);
    let set = state.triggers.current();
    let now = state.clock.now();
    let due = state.store.due_schedules(now, BATCH).await?;
    for start in daemons::starts(&set, &due, now) {
        done.add(daemons::start(state, &start).await);
    }
    let mut fires = Vec::with_capacity(due.len());
    for due in due {
        // A schedule of a trigger that this server has not read yet stays due.
        let Some((live, clocked)) = set.clocked(due.id) else { continue };
        match &clocked.schedule.deadline {
            None => fires.push(fire::fire(live, clocked, due.run_at, now)),
            Some(deadline) => {
                match deadline::judge(state, &set, (live, clocked, deadline), due.run_at, now).await {
                    Ok(judged) => fires.extend(judged),
                    Err(error) => done.add(Err(error)),
                }
            }
        }
    }
    fire_all(state, &fires, &mut done).await;
    let queue = state.store.pass_turns(state.clock.now()).await?.queue;
    if let Some(error) = done.failed {
        return Err(error);
    }
    let daemons = if state.store.has_daemons().await? { Daemons::Kept } else { Daemons::None };
    Ok(Looked { moved: done.moved, next: state.store.next_fire().await?, queue, daemons })
}

async fn fire_all(state: &AppState, fires: &[Fire], done: &mut Done) {
    for batch in fires.chunks(TOGETHER) {
        match store(state, batch).await {
            Err(_) if batch.len() > 1 => {
                for one in batch.chunks(1) {
                    done.add(store(state, one).await);
                }
            }
            stored => done.add(stored),
        }
    }
}

/// Yields how many were moved on here.
async fn store(state: &AppState, batch: &[Fire]) -> Result<usize, StoreError> {
    failpoint!("fire.before");
    let fired = state.store.fire(batch).await?;
    failpoint!("fire.after");
    for (fire, fired) in batch.iter().zip(&fired) {
        let ran = fire.ingest.as_ref().is_some_and(|ingest| !ingest.tasks.is_empty());
        match fired {
            Fired::Stored if ran => state.metrics.schedules_fired.inc(),
            Fired::Stored | Fired::Elsewhere => {}
            Fired::Overlaps => {
                tracing::info!(schedule = %fire.id, run_at = %fire.run_at, "a fire overlaps and is skipped");
            }
        }
    }
    Ok(fired.into_iter().filter(|fired| *fired != Fired::Elsewhere).count())
}

async fn wake(
    triggers: &mut watch::Receiver<Arc<TriggerSet>>,
    tasks: Option<(&mut watch::Receiver<u64>, Duration)>,
    pause: Duration,
    shutdown: &CancellationToken,
) -> Wake {
    let task_change = async {
        match tasks {
            Some((tasks, after)) => {
                sleep(after).await;
                tasks.changed().await.is_ok()
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        true = task_change => Wake::Tasks,
        () = shutdown.cancelled() => Wake::Shutdown,
        Ok(()) = triggers.changed() => Wake::Triggers,
        () = sleep(pause) => Wake::Time,
    }
}

fn until(looked: Looked, now: Timestamp) -> Duration {
    let Some(next) = looked.next else { return LONGEST };
    match Duration::try_from(next.duration_since(now)) {
        Ok(wait) if wait > Duration::ZERO => wait.min(LONGEST),
        // A schedule can be due again at once: the next second, or after missed times.
        Ok(_) | Err(_) if looked.moved > 0 => Duration::ZERO,
        Ok(_) | Err(_) => SHORTEST,
    }
}
