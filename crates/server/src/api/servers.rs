//! The keys of the servers of this database, by which agents know them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use hetuflow_core::fingerprint::Fingerprint;
use hetuflow_store::{KnownServer, StoreError};
use jiff::Timestamp;
use serde::Serialize;

use super::{Api, ApiError, input::id};

#[derive(Debug, Serialize)]
pub(super) struct List {
    items: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    fingerprint: Fingerprint,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<List>, ApiError> {
    let server = |KnownServer { fingerprint, first_seen_at, last_seen_at }| Server {
        fingerprint,
        first_seen_at,
        last_seen_at,
    };
    Ok(Json(List { items: api.app.store.servers().await?.into_iter().map(server).collect() }))
}

/// Agents that are connected are told within seconds, by each server.
pub(super) async fn forget(State(api): State<Api>, Path(key): Path<String>) -> Result<StatusCode, ApiError> {
    let key: Fingerprint = id(&key)?;
    match api.app.store.forget_server(key).await {
        Err(StoreError::NotFound) => {
            Err(ApiError::NotFound(format!("no server of this database had the key {key}")))
        }
        forgotten => {
            forgotten?;
            tracing::info!(%key, "the key of a server is forgotten");
            Ok(StatusCode::NO_CONTENT)
        }
    }
}
