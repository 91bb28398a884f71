//! Keeps the sessions of connected agents alive, and, on the leader, settles what agents that stayed away held.
//!
//! One call renews all sessions of this server. Agents whose session moved to another server are
//! dropped here. At the stop: agents are told to go elsewhere, may report for a moment, and are closed.

use std::{collections::HashMap, time::Duration};

use hetuflow_core::{fingerprint::Fingerprint, id::AgentId};
use hetuflow_store::{Leadership, StoreError};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::servers::Servers;
use crate::{
    AppState,
    hub::{Hub, Online, SessionKey},
    ingest::chain,
    leader::Leader,
};

/// The shortest pause between two renewals.
const SHORTEST: Duration = Duration::from_millis(100);

/// Attempts that one statement of the reaper settles, at most.
const REAP_BATCH: u32 = 500;

/// How long agents may still report after they were told that the server stops, and to be closed in order.
const LAST_REPORTS: Duration = Duration::from_secs(2);
const GOODBYE: Duration = Duration::from_secs(3);

/// All that can wake this loop.
enum Wake {
    Renew,
    Shutdown,
}

/// What the loop remembers between its turns.
#[derive(Debug)]
struct Keeper {
    /// When sessions were renewed last.
    renewed: Instant,
    /// Since when every turn has reached the database. Agents are judged only by a server that would have heard
    /// them: one that has just started, or had no database, gives them the time to come back.
    sound_since: Option<Instant>,
}

/// Runs until `shutdown`, then drains: it returns when every connection is closed, or after a few seconds.
pub(crate) async fn keep_sessions(
    state: AppState,
    leader: Leader,
    server_key: Option<Fingerprint>,
    shutdown: CancellationToken,
) {
    let mut keeper = Keeper { renewed: Instant::now(), sound_since: None };
    let mut servers = Servers::new(server_key);
    // Three chances before a session runs out.
    let pause = (state.config.agents.lease / 3).max(SHORTEST);
    while let Wake::Renew = wake(pause, &shutdown).await {
        keeper.turn(&state, leader.leadership()).await;
        servers.follow(&state).await;
    }
    drain(&state.hub).await;
}

async fn wake(pause: Duration, shutdown: &CancellationToken) -> Wake {
    tokio::select! {
        () = shutdown.cancelled() => Wake::Shutdown,
        // A little earlier at random, so that many servers do not come in step.
        () = sleep(pause.mul_f64(rand::random_range(0.8..1.0))) => Wake::Renew,
    }
}

impl Keeper {
    async fn turn(&mut self, state: &AppState, leadership: Option<Leadership>) {
        let lease = state.config.agents.lease;
        let patience = lease + state.config.agents.resume;
        let may_judge = self.sound_since.is_some_and(|since| since.elapsed() > patience);
        // A database that is gone without a word would hold a call for minutes.
        let turn = timeout(lease, tick(state, leadership.filter(|_| may_judge), &mut self.renewed));
        match turn.await.map_err(|_| format!("no answer within {} s", lease.as_secs())) {
            // Another server took over and reaps; sessions were kept.
            Ok(Ok(()) | Err(StoreError::NotLeader)) if self.sound_since.is_none() => {
                self.sound_since = Some(Instant::now());
            }
            Ok(Ok(()) | Err(StoreError::NotLeader)) => {}
            Ok(Err(error)) => self.failed(state, &chain(&error)),
            Err(error) => self.failed(state, &error),
        }
    }

    fn failed(&mut self, state: &AppState, error: &str) {
        self.sound_since = None;
        tracing::error!(error, "sessions of agents could not be kept");
        if self.renewed.elapsed() > state.config.agents.lease && !state.hub.is_empty() {
            // Their sessions have run out, and soon a server with the database gives up what they hold: they shall find it before.
            tracing::error!("agents are sent away: their sessions could not be renewed in time");
            state.hub.close_all();
        }
    }
}

/// Renews, follows what was decided about agents, and (when this server leads and may judge) reaps.
pub(crate) async fn tick(
    state: &AppState,
    leadership: Option<Leadership>,
    renewed: &mut Instant,
) -> Result<(), StoreError> {
    renew(state).await?;
    *renewed = Instant::now();
    follow_decisions(state).await?;
    match leadership {
        Some(leadership) => reap(state, leadership).await,
        None => Ok(()),
    }
}

async fn renew(state: &AppState) -> Result<(), StoreError> {
    let sessions = state.hub.sessions();
    if sessions.is_empty() {
        return Ok(());
    }
    let moved = state.store.renew_sessions(state.server_id, &sessions, state.config.agents.lease).await?;
    let epochs: HashMap<AgentId, i64> = sessions.into_iter().collect();
    for agent_id in moved {
        if let Some(&epoch) = epochs.get(&agent_id) {
            tracing::info!(agent.id = %agent_id, epoch, "the agent's session moved on");
            // Of this epoch only: meanwhile it may have come back to this very server.
            state.hub.close(&SessionKey { agent_id, epoch });
        }
    }
    Ok(())
}

/// Labels can be replaced, and agents drained, through another server.
async fn follow_decisions(state: &AppState) -> Result<(), StoreError> {
    let online: HashMap<AgentId, Online> =
        state.hub.online().into_iter().map(|online| (online.agent_id.clone(), online)).collect();
    if online.is_empty() {
        return Ok(());
    }
    for agent in state.store.agents().await? {
        let Some(online) = online.get(&agent.id) else { continue };
        if online.labels != agent.labels {
            state.hub.set_labels(&agent.id, &agent.labels);
        }
        if online.duty != agent.duty {
            state.hub.set_duty(&agent.id, agent.duty);
        }
    }
    Ok(())
}

async fn reap(state: &AppState, leadership: Leadership) -> Result<(), StoreError> {
    loop {
        let lost = state
            .store
            .reap(leadership, state.config.agents.resume, state.clock.now(), rand::random(), REAP_BATCH)
            .await?;
        for task_id in &lost {
            tracing::warn!(task.id = %task_id, reason = "lost", "attempt lost: its agent stayed away");
        }
        if lost.len() < REAP_BATCH as usize {
            return Ok(());
        }
    }
}

async fn drain(hub: &Hub) {
    hub.drain();
    if timeout(LAST_REPORTS, emptied(hub)).await.is_ok() {
        return;
    }
    hub.close_all();
    if timeout(GOODBYE, emptied(hub)).await.is_err() {
        tracing::warn!("some agents' connections did not close in time; their sessions run out");
    }
}

async fn emptied(hub: &Hub) {
    let mut changes = hub.changes();
    while !hub.is_empty() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
