//! Whether the server can keep its word now, and its numbers.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hetuflow_core::id::Namespace;
use http::{HeaderValue, StatusCode, header};

use super::{Api, ApiError};
use crate::{
    health::{self, Status},
    metrics::write_gauge,
};

pub(super) async fn health(State(api): State<Api>) -> Response {
    let health = health::check(&api.app, &api.loops, &api.reports).await;
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
    let help = "Tasks whose end an agent is told of, because files of a strict order wait for it.";
    write_gauge(&mut text, "hetuflow_tasks_followed", help, api.app.hub.followed());
    let leads = usize::from(api.leader.leadership().is_some());
    write_gauge(&mut text, "hetuflow_leader", "1 on the server that leads, otherwise 0.", leads);
    write_retention(&mut text, &api);
    write_gauge(&mut text, "hetuflow_triggers_live", "Triggers in force.", set.live.len());
    write_gauge(&mut text, "hetuflow_triggers_broken", "Triggers whose newest text is not in force.", broken);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// On the leader only: it measures for all.
fn write_retention(text: &mut String, api: &Api) {
    let report = api.reports.borrow().clone();
    let Some(report) = report else { return };
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let bytes = number(report.size.bytes);
    write_gauge(text, "hetuflow_store_bytes", "Bytes that tables and indexes take.", bytes);
    let help = "Old partitions that stay because they hold tasks that have not ended.";
    write_gauge(text, "hetuflow_retention_held_partitions", help, number(report.held));
    write_shares(text, &report.shares);
    if let Some(oldest) = report.size.oldest {
        let age = api.app.clock.now().duration_since(oldest).as_secs();
        let age = usize::try_from(age).unwrap_or(0);
        write_gauge(
            text,
            "hetuflow_store_oldest_age_seconds",
            "Age of the oldest event, task or output.",
            age,
        );
    }
}

fn write_shares(text: &mut String, shares: &[(Namespace, u64)]) {
    use std::fmt::Write;
    let name = "hetuflow_namespace_bytes";
    if !shares.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} Bytes that a namespace keeps, without what the tables need.\n# TYPE {name} gauge"
        );
    }
    for (namespace, bytes) in shares {
        let _ = writeln!(text, "{name}{{namespace=\"{namespace}\"}} {bytes}");
    }
}
