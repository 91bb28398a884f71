//! Tasks: planned executions, why they wait, how they went; and an operator's retry and cancel.

pub(super) mod bulk;
mod filter;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    id::TaskId,
    task::{Task, TaskInstance},
};
use hetuflow_store::{Cancelled, InstanceFilter, Page};
use serde::Serialize;

use super::{
    Api, ApiError, agents,
    input::{Input, Params, id},
    page::{Items, PageOf, PageQuery},
    waiting::pending_reason,
};
use filter::{ListQuery, PageFilter};

pub(super) async fn list(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Items<Task>>, ApiError> {
    let page = query.page()?;
    let tasks = api.app.store.tasks(&query.filter()?, page).await?;
    Ok(Json(Items::new(tasks, page, |task| task.id.uuid())))
}

pub(super) async fn page(
    State(api): State<Api>,
    Input(query): Input<PageQuery<PageFilter>>,
) -> Result<Json<PageOf<Task>>, ApiError> {
    let filter = query.filter.filter()?;
    let store = &api.app.store;
    let page = query.page.walk(|page| store.tasks(&filter, page), |task| task.id.uuid()).await?;
    Ok(Json(page))
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    task: Task,
    instances: Vec<TaskInstance>,
    /// Why it waits, when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_reason: Option<String>,
}

pub(super) async fn show(State(api): State<Api>, Path(task): Path<String>) -> Result<Json<Shown>, ApiError> {
    Ok(Json(shown(&api, id(&task)?).await?))
}

async fn shown(api: &Api, id: TaskId) -> Result<Shown, ApiError> {
    let task = api.app.store.task(id).await?;
    let filter = InstanceFilter { task_id: Some(id), ..InstanceFilter::default() };
    let instances = api.app.store.instances(&filter, Page { before: None, limit: 500 }).await?;
    let pending_reason = if task.status.is_waiting() {
        pending_reason(&task, &agents::connected(api).await?, api.app.clock.now())
    } else {
        None
    };
    Ok(Shown { task, instances, pending_reason })
}

pub(super) async fn retry(State(api): State<Api>, Path(task): Path<String>) -> Result<Json<Shown>, ApiError> {
    let id = id(&task)?;
    api.app.store.retry(id, api.app.clock.now()).await?;
    Ok(Json(shown(&api, id).await?))
}

/// A task that waits is cancelled at once; of one that an agent holds the end is asked for.
pub(super) async fn cancel(
    State(api): State<Api>,
    Path(task): Path<String>,
) -> Result<Json<Shown>, ApiError> {
    let id = id(&task)?;
    match api.app.store.cancel(id, api.app.clock.now()).await? {
        Cancelled::Now => {}
        Cancelled::Asked { agent_id, lease } => {
            // Connected elsewhere, or just gone: the stored mark reaches it through the dispatch loop.
            let _ = api.app.hub.cancel(&agent_id, lease);
        }
    }
    Ok(Json(shown(&api, id).await?))
}
