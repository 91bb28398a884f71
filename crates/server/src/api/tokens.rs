//! Tokens by which agents join, and the end of what they joined.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{duration, fingerprint::Fingerprint, id::AgentId, labels::Labels};
use hetuflow_store::{NewToken, StoreError};
use hetuflow_trust::{JoinToken, hash};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    input::{Input, id},
};

/// A token that is still good tomorrow is found by somebody.
const LONGEST: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// What the agent has, and nothing else. Without them its own configuration says it.
    labels: Option<Labels>,
    /// The only agent that may use it.
    agent_id: Option<AgentId>,
    #[serde(default = "longest", with = "duration")]
    expires: Duration,
}

const fn longest() -> Duration {
    LONGEST
}

#[derive(Debug, Serialize)]
pub(super) struct Made {
    /// Shown once.
    token: String,
    expires_at: Timestamp,
    /// The servers that it names.
    servers: Vec<Fingerprint>,
}

pub(super) async fn make(
    State(api): State<Api>,
    Input(wanted): Input<Wanted>,
) -> Result<Json<Made>, ApiError> {
    if wanted.expires.is_zero() || wanted.expires > LONGEST {
        return Err(ApiError::BadRequest("`expires` is more than nothing and at most 1h".to_owned()));
    }
    let servers = api.app.store.server_keys().await?;
    if servers.is_empty() {
        return Err(ApiError::Conflict(
            "no server takes agents of other machines: write an address that they can reach in [server] \
             websocket_port, such as \"0.0.0.0:8081\"; an agent on the server's own machine needs no token"
                .to_owned(),
        ));
    }
    let token = JoinToken::make(servers);
    let new = NewToken { hash: hash(&token.secret), labels: wanted.labels, agent_id: wanted.agent_id };
    let expires_at = api.app.store.make_token(&new, wanted.expires).await?;
    tracing::info!(labels = ?new.labels, agent.id = ?new.agent_id, %expires_at, "a token was made for an agent to join");
    Ok(Json(Made { token: token.reveal(), expires_at, servers: token.servers }))
}

#[derive(Debug, Serialize)]
pub(super) struct Revoked {
    agent_id: AgentId,
    fingerprint: Fingerprint,
}

/// The session ends here at once, and on another server when that one next renews it.
pub(super) async fn revoke(
    State(api): State<Api>,
    Path(agent): Path<String>,
) -> Result<Json<Revoked>, ApiError> {
    let agent_id: AgentId = id(&agent)?;
    let fingerprint = match api.app.store.revoke(&agent_id).await {
        Err(StoreError::NotFound) => {
            return Err(ApiError::NotFound(format!(
                "{agent_id} has no key: it has not joined, or was taken back"
            )));
        }
        revoked => revoked?,
    };
    api.app.hub.cut(&agent_id);
    tracing::info!(agent.id = %agent_id, key = %fingerprint, "an agent's key was taken back");
    Ok(Json(Revoked { agent_id, fingerprint }))
}
