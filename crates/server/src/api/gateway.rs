//! What hangs on this server's gateway.

use axum::{Json, extract::State};
use hetuflow_core::{agent::Duty, id::AgentId, labels::Labels};
use serde::Serialize;

use super::Api;
use crate::hub::Online;

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    /// Agents connected to this server; `GET agents` has those of all.
    connected: usize,
    /// Attempts that they could run at once, and start now.
    slots: u64,
    free: u64,
    /// The server is about to stop: agents are asked to go elsewhere.
    draining: bool,
    agents: Vec<Connected>,
}

#[derive(Debug, Serialize)]
struct Connected {
    id: AgentId,
    session_epoch: i64,
    labels: Labels,
    duty: Duty,
    slots: u32,
    free: u32,
    watches: usize,
}

pub(super) async fn stats(State(api): State<Api>) -> Json<Stats> {
    let mut agents: Vec<Connected> = api.app.hub.online().into_iter().map(Connected::from).collect();
    agents.sort_by(|one, other| one.id.cmp(&other.id));
    let sum = |count: fn(&Connected) -> u32| agents.iter().map(|agent| u64::from(count(agent))).sum();
    Json(Stats {
        connected: agents.len(),
        slots: sum(|agent| agent.slots),
        free: sum(|agent| agent.free),
        draining: api.app.hub.is_draining(),
        agents,
    })
}

impl From<Online> for Connected {
    fn from(online: Online) -> Self {
        let Online { agent_id, session_epoch, labels, duty, slots, free, watches } = online;
        Self { id: agent_id, session_epoch, labels, duty, slots, free, watches: watches.len() }
    }
}
