//! Task instances: single attempts.

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::task::TaskInstance;
use hetuflow_store::InstanceFilter;
use serde::Deserialize;

use super::{
    Api, ApiError,
    input::{Input, id},
    page::{Condition, PageOf, PageQuery, value, values},
};

/// The fields of `filter` in `POST task-instances/page`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageFilter {
    task_id: Option<Condition>,
    job_id: Option<Condition>,
    agent_id: Option<Condition>,
    status: Option<Condition>,
}

pub(super) async fn page(
    State(api): State<Api>,
    Input(query): Input<PageQuery<PageFilter>>,
) -> Result<Json<PageOf<TaskInstance>>, ApiError> {
    let filter = InstanceFilter {
        task_id: value("task_id", query.filter.task_id.as_ref())?,
        job_id: value("job_id", query.filter.job_id.as_ref())?,
        agent_id: value("agent_id", query.filter.agent_id.as_ref())?,
        status: values("status", query.filter.status.as_ref())?,
    };
    let store = &api.app.store;
    let page = query.page.walk(|page| store.instances(&filter, page), |one| one.id.uuid()).await?;
    Ok(Json(page))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(instance): Path<String>,
) -> Result<Json<TaskInstance>, ApiError> {
    Ok(Json(api.app.store.instance(id(&instance)?).await?))
}
