//! Hands waiting tasks to agents: claims for agents that are connected here, have room and match,
//! and pushes what it got. Steps 6 and 7 of the walk.
//!
//! Work finds the server that has room: a server claims only for its own agents, so nothing is ever passed
//! between servers. Wake-ups are hints; the loop registers for them before it looks, and polls besides. Most
//! tasks never come here: they are leased in the commit that stores them (see [`crate::ingest`]).

mod push;
mod recent;
mod rounds;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{AppState, ingest::chain};
pub(crate) use push::{Dispatcher, Leased, Unsent};
pub(crate) use recent::Briefing;
pub(crate) use rounds::Rounds;

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
    let mut rounds = Rounds::new(&state);
    let mut failing = false;
    let mut only_room = false;
    loop {
        // Seen as of now: whatever changes while we look wakes us again.
        room.mark_unchanged();
        let looked = if only_room {
            rounds.fill(&state).await
        } else {
            tasks.mark_unchanged();
            rounds.tick(&state).await
        };
        let mut pause = match looked {
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
        only_room = loop {
            let waits = tokio::time::Instant::now();
            match wake(&mut tasks, &mut room, pause, &shutdown).await {
                Wake::Tasks | Wake::Time => break false,
                Wake::Room if state.hub.has_room_for_backlog() => break true,
                // Room for nothing that waits.
                Wake::Room => pause = pause.saturating_sub(waits.elapsed()),
                Wake::Shutdown => return,
            }
        };
    }
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
