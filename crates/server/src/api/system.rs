//! Whether the server can keep its word now, and its numbers.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

use super::{Api, ApiError};
use crate::{
    health::{self, Status},
    metrics::write_gauge,
};

pub(super) async fn health(State(api): State<Api>) -> Response {
    let health = health::check(&api.app, &api.loops).await;
    let status = match health.status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health)).into_response()
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let mut text = api.app.metrics.render();
    let set = api.app.triggers.current();
    let broken = set.stored.iter().filter(|stored| stored.problem.is_some()).count();
    write_gauge(
        &mut text,
        "hetuflow_agents_connected",
        "Agents connected to this server.",
        api.app.hub.online().len(),
    );
    let leads = usize::from(api.leader.leadership().is_some());
    write_gauge(&mut text, "hetuflow_leader", "1 on the server that leads, otherwise 0.", leads);
    write_gauge(&mut text, "hetuflow_triggers_live", "Triggers in force.", set.live.len());
    write_gauge(&mut text, "hetuflow_triggers_broken", "Triggers whose newest text is not in force.", broken);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}
