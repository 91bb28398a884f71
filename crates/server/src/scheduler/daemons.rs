//! Daemons: what became of their runs, and the start of the next ones. Who may start what is the store's word alone, so
//! that any number of servers may do this.

use hetuflow_store::{DaemonStart, Due, Fired, StoreError, Tended, Tending};
use jiff::Timestamp;

use super::fire;
use crate::{AppState, triggers::TriggerSet};

/// Steps of one daemon that a look takes at most: its run is cancelled while it waits, and the next one is planned.
const STEPS: usize = 3;

/// Looks after the runs that there are. Yields how many of them changed.
pub(super) async fn tend(state: &AppState) -> Result<usize, StoreError> {
    let mut changed = 0;
    for _ in 0..STEPS {
        let tended = state.store.tend_daemons(state.clock.now()).await?;
        tended.iter().for_each(log);
        changed += tended.len();
        if tended.is_empty() {
            break;
        }
    }
    Ok(changed)
}

fn log(Tended { place, what }: &Tended) {
    let (trigger, schedule) = (format!("{}/{}", place.namespace, place.trigger), &place.name);
    match what {
        Tending::Starts { at, restarts } => {
            tracing::info!(trigger, schedule, %at, restarts, "daemon starts again");
        }
        Tending::Ends => {
            tracing::info!(trigger, schedule, "daemon is no longer wanted as it is: its run is ended");
        }
        Tending::Stopped => tracing::warn!(trigger, schedule, "daemon has ended and is not started again"),
        Tending::Held => {
            tracing::error!(
                trigger,
                schedule,
                "nobody knows whether the daemon still runs: a person decides"
            );
        }
        Tending::Forgotten => tracing::info!(trigger, schedule, "daemon has ended and is gone"),
    }
}

/// Those among `due` that are daemons of this set.
pub(super) fn starts(set: &TriggerSet, due: &[Due], now: Timestamp) -> Vec<DaemonStart> {
    let start = |due: &Due| {
        let (live, daemon) = set.daemon(due.id)?;
        Some(fire::start(live, (due.id, daemon), due.run_at, now))
    };
    due.iter().filter_map(start).collect()
}

/// Yields how many started here.
pub(super) async fn start(state: &AppState, start: &DaemonStart) -> Result<usize, StoreError> {
    let fired = state.store.start_daemon(start).await?;
    if fired == Fired::Stored {
        state.metrics.daemons_started.inc();
        let task = start.ingest.tasks.first().map(|task| task.id.to_string());
        tracing::info!(schedule.id = %start.id, task.id = task, "daemon starts");
    }
    Ok(usize::from(fired == Fired::Stored))
}
