//! Hands waiting tasks to agents: claims for agents that are connected here, have room and match,
//! and pushes what it got. Steps 6 and 7 of the walk.
//!
//! Work finds the server that has room: a server claims only for its own agents, so nothing is ever passed
//! between servers. Wake-ups are hints; the loop registers for them before it looks, and polls besides.

mod assign;
mod slots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use hetuflow_store::StoreError;
use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{AppState, ingest::chain};
use assign::Desk;

/// After a failure of the store.
const PAUSE: Duration = Duration::from_secs(2);

/// All that can wake the loop.
#[derive(Debug)]
enum Wake {
    /// Tasks may have become claimable, or somebody asked for the end of one.
    Tasks,
    /// An agent came, or has more room.
    Room,
    /// A task becomes due, or it is time to look anyway.
    Time,
    Shutdown,
}

/// Runs until `shutdown`. A claim is never left half done: its tasks are sent or given back first.
pub(crate) async fn run(state: AppState, shutdown: CancellationToken) {
    let mut tasks = state.store.task_changes();
    let mut room = state.hub.changes();
    let mut failing = false;
    for turn in 0_usize.. {
        // Seen as of now: whatever changes while we look wakes us again.
        tasks.mark_unchanged();
        room.mark_unchanged();
        let pause = match tick(&state, turn).await {
            Ok(due) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("dispatch works again");
                }
                until(due, &state)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(error = chain(&error), "tasks cannot be dispatched");
                }
                sleep_or(&shutdown, jittered(PAUSE)).await;
                Duration::ZERO
            }
        };
        match wake(&mut tasks, &mut room, pause, &shutdown).await {
            Wake::Tasks | Wake::Room | Wake::Time => {}
            Wake::Shutdown => return,
        }
    }
}

/// Asks for the ends that were asked for, then gives away all that can be. Yields when the next task
/// becomes due. `turn` rotates who comes first.
pub(crate) async fn tick(state: &AppState, turn: usize) -> Result<Option<Timestamp>, StoreError> {
    if state.hub.is_empty() {
        return Ok(None);
    }
    pass_on_cancellations(state).await?;
    if state.hub.online().iter().all(|agent| agent.free == 0) {
        return Ok(None);
    }
    let mut lanes = state.store.waiting_lanes(state.clock.now()).await?;
    if !lanes.is_empty() {
        let first = turn % lanes.len();
        lanes.rotate_left(first);
    }
    let mut desk = Desk::new(state, turn);
    for lane in &lanes {
        desk.serve(lane).await?;
    }
    state.store.next_run_at(state.clock.now()).await
}

async fn pass_on_cancellations(state: &AppState) -> Result<(), StoreError> {
    for (agent_id, lease) in state.store.cancel_requests().await? {
        // Agents of other servers hear it there.
        state.hub.cancel(&agent_id, lease);
    }
    Ok(())
}

async fn wake(
    tasks: &mut watch::Receiver<u64>,
    room: &mut watch::Receiver<u64>,
    pause: Duration,
    shutdown: &CancellationToken,
) -> Wake {
    tokio::select! {
        () = shutdown.cancelled() => Wake::Shutdown,
        // A closed channel never wakes; the poll remains.
        Ok(()) = tasks.changed() => Wake::Tasks,
        Ok(()) = room.changed() => Wake::Room,
        () = sleep(pause) => Wake::Time,
    }
}

fn until(due: Option<Timestamp>, state: &AppState) -> Duration {
    // How long a lost notification delays a task, at most.
    let poll = jittered(state.config.scheduler.tick_interval);
    let now = state.clock.now();
    let wait = |due: Timestamp| Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO);
    due.map_or(poll, |due| wait(due).min(poll))
}

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..1.2))
}

async fn sleep_or(shutdown: &CancellationToken, duration: Duration) {
    // The next look finds the shutdown by itself.
    let _ = tokio::time::timeout(duration, shutdown.cancelled()).await;
}
