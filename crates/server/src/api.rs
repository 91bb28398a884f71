//! The API for people and scripts, under `/api/v1`: JSON with the names of core's types, problems for
//! errors (RFC 9457). It takes no token and is therefore for this machine only: [`guard`] refuses
//! what a foreign web page could make a browser send.

mod agents;
mod declare;
mod docs;
pub(crate) mod error;
mod events;
mod gateway;
mod guard;
mod input;
mod instances;
mod jobs;
pub(crate) mod logs;
mod page;
mod schedules;
mod servers;
mod system;
mod tasks;
mod tokens;
mod triggers;
mod waiting;

use axum::{
    Router, middleware,
    routing::{delete, get, post},
};
use tokio_util::sync::CancellationToken;

use crate::{AppState, health::Loops, housekeeping::Reports, leader::Leader};

pub(crate) use error::{ApiError, explain};
pub(crate) use guard::from_this_machine;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) app: AppState,
    pub(crate) loops: Loops,
    pub(crate) leader: Leader,
    pub(crate) reports: Reports,
    /// Ends what would otherwise go on for as long as its reader likes.
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/events", get(events::list).post(events::send))
        .route("/events/count", get(events::replay::count))
        .route("/events/replay", post(events::replay::many))
        .route("/events/{id}", get(events::show))
        .route("/events/{id}/replay", post(events::replay::one))
        .route("/events/{id}/body", get(events::body))
        .route("/tasks", get(tasks::list))
        .route("/tasks/page", post(tasks::page))
        .route("/tasks/count", get(tasks::bulk::count))
        .route("/tasks/retry", post(tasks::bulk::retry))
        .route("/tasks/cancel", post(tasks::bulk::cancel))
        .route("/tasks/{id}", get(tasks::show))
        .route("/tasks/{id}/retry", post(tasks::retry))
        .route("/tasks/{id}/cancel", post(tasks::cancel))
        .route("/task-instances/page", post(instances::page))
        .route("/task-instances/{id}", get(instances::show))
        .route("/task-instances/{id}/logs", get(logs::logs))
        .route("/agents", get(agents::list))
        .route("/agents/query", post(agents::query))
        .route("/agents/{id}", get(agents::show))
        .route("/agents/{id}/update", post(agents::update))
        .route("/agents/{id}/revoke", post(tokens::revoke))
        .route("/agent-tokens", post(tokens::make))
        .route("/servers", get(servers::list))
        .route("/servers/{key}", delete(servers::forget))
        .route("/jobs", get(jobs::list))
        .route("/jobs/item", post(jobs::create))
        .route("/jobs/{id}", get(jobs::show))
        .route("/schedules", get(schedules::list))
        .route("/schedules/item", post(schedules::create::create))
        .route("/schedules/{id}/next", get(schedules::next))
        .route("/triggers", get(triggers::list))
        .route("/triggers/apply", post(triggers::apply))
        .route("/triggers/check", post(triggers::check))
        .route("/triggers/{name}", get(triggers::show).delete(triggers::remove))
        .route("/triggers/{name}/start", post(triggers::start::start))
        .route("/gateway/stats", get(gateway::stats))
        .route("/system/health", get(system::health))
        .route("/system/metrics", get(system::metrics))
        .layer(middleware::from_fn(guard::bounded_body));
    this_machine_only(Router::new().route("/docs", get(docs::show)).nest("/api/v1", v1).with_state(api))
}

/// It takes no credentials yet.
fn this_machine_only(router: Router) -> Router {
    router.layer(middleware::from_fn(guard::this_machine_only))
}
