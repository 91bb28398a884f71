//! Agents: who they are, where they are connected, how their watches do.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    agent::{Agent, Connection, Duty},
    id::AgentId,
    labels::Labels,
    protocol::WatchState,
};
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    input::{Input, id},
    page::{Condition, Items, PageOf, PageQuery, value},
    waiting::{Known, Presence},
};
use crate::hub::Online;

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    agent: Agent,
    /// Attempts that it could start now; only when it is connected to this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u32>,
    /// Likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    watches: Vec<WatchState>,
}

impl Shown {
    fn new(agent: Agent, here: &BTreeMap<AgentId, Online>) -> Self {
        let online = here.get(&agent.id);
        Self {
            free: online.map(|online| online.free),
            watches: online.map_or_else(Vec::new, |online| online.watches.values().cloned().collect()),
            agent,
        }
    }
}

fn here(api: &Api) -> BTreeMap<AgentId, Online> {
    api.app.hub.online().into_iter().map(|online| (online.agent_id.clone(), online)).collect()
}

async fn all(api: &Api) -> Result<Vec<Shown>, ApiError> {
    let here = here(api);
    Ok(api.app.store.agents().await?.into_iter().map(|agent| Shown::new(agent, &here)).collect())
}

/// All agents as those who wait for one see them, whichever server they are connected to; of those here the hub
/// knows better.
pub(super) async fn known(api: &Api) -> Result<Vec<Known>, ApiError> {
    let here = here(api);
    let seen = |agent: Agent| {
        let online = here.get(&agent.id);
        let presence = match (online, agent.connection) {
            (Some(online), _) => Presence::Online { free: online.free },
            (None, Connection::Online) => {
                Presence::Online { free: agent.slots.saturating_sub(agent.running) }
            }
            (None, Connection::Offline) => Presence::Offline { since: agent.last_seen_at },
        };
        let labels = online.map_or(agent.labels, |online| online.labels.clone());
        let Agent { id, slots, running, duty, .. } = agent;
        Known { id, labels, slots, running, duty, presence, longest: None }
    };
    Ok(api.app.store.agents().await?.into_iter().map(seen).collect())
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Items<Shown>>, ApiError> {
    Ok(Json(Items::all(all(&api).await?)))
}

/// The fields of `filter` in `POST agents/query`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageFilter {
    id: Option<Condition>,
}

pub(super) async fn query(
    State(api): State<Api>,
    Input(query): Input<PageQuery<PageFilter>>,
) -> Result<Json<PageOf<Shown>>, ApiError> {
    let wanted: Option<AgentId> = value("id", query.filter.id.as_ref())?;
    let mut agents = all(&api).await?;
    agents.retain(|shown| wanted.as_ref().is_none_or(|id| *id == shown.agent.id));
    Ok(Json(query.page.cut(agents)?))
}

pub(super) async fn show(State(api): State<Api>, Path(agent): Path<String>) -> Result<Json<Shown>, ApiError> {
    let agent = api.app.store.agent(&id(&agent)?).await?;
    Ok(Json(Shown::new(agent, &here(&api))))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    labels: Option<Labels>,
    duty: Option<Duty>,
}

/// The labels hold until the agent's next hello, which brings those of its own configuration; the duty until it is
/// set anew.
pub(super) async fn update(
    State(api): State<Api>,
    Path(agent): Path<String>,
    Input(update): Input<Update>,
) -> Result<Json<Shown>, ApiError> {
    let id = id(&agent)?;
    if update.labels.is_none() && update.duty.is_none() {
        return Err(ApiError::BadRequest("the body names nothing to change: labels or duty".to_owned()));
    }
    if let Some(labels) = &update.labels {
        let agent = api.app.store.set_labels(&id, labels).await?;
        api.app.hub.set_labels(&agent.id, &agent.labels);
    }
    if let Some(duty) = update.duty {
        let agent = api.app.store.set_duty(&id, duty).await?;
        tracing::info!(agent.id = %agent.id, ?duty, "somebody has decided whether the agent is given tasks");
        api.app.hub.set_duty(&agent.id, agent.duty);
    }
    let agent = api.app.store.agent(&id).await?;
    Ok(Json(Shown::new(agent, &here(&api))))
}
