//! The keys of the servers of this database, by which agents know them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use hetuflow_core::{agent::ServerKey, fingerprint::Fingerprint};
use hetuflow_store::StoreError;

use super::{Api, ApiError, input::id, page::Items};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Items<ServerKey>>, ApiError> {
    Ok(Json(Items::all(api.app.store.servers().await?)))
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
