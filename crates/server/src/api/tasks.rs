//! Tasks: planned executions, why they wait, how they went; and an operator's retry and cancel.

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    id::{EventId, JobId, Namespace, TaskId},
    status::Status,
    task::{Task, TaskInstance},
};
use hetuflow_store::{Cancelled, InstanceFilter, Page, TaskFilter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Api, ApiError, agents,
    input::{Input, Params, id, parsed},
    page::{Condition, Items, PageOf, PageQuery, cursor_page, value, values},
    waiting::pending_reason,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    namespace: Option<Namespace>,
    trigger: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    job_id: Option<JobId>,
    #[serde(default, deserialize_with = "parsed")]
    event_id: Option<EventId>,
    /// Names or numbers, separated by commas.
    status: Option<String>,
    limit: Option<u32>,
    cursor: Option<Uuid>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items<Task>>, ApiError> {
    let page = cursor_page(filter.limit, filter.cursor)?;
    let filter = TaskFilter {
        namespace: filter.namespace,
        trigger: filter.trigger,
        job_id: filter.job_id,
        event_id: filter.event_id,
        status: statuses(filter.status.as_deref())?,
    };
    let tasks = api.app.store.tasks(&filter, page).await?;
    Ok(Json(Items::new(tasks, page, |task| task.id.uuid())))
}

fn statuses(text: Option<&str>) -> Result<Vec<Status>, ApiError> {
    let parse = |one: &str| one.trim().parse().map_err(|error| ApiError::BadRequest(format!("{error}")));
    text.map_or_else(|| Ok(Vec::new()), |text| text.split(',').map(parse).collect())
}

/// The fields of `filter` in `POST tasks/page`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageFilter {
    #[serde(alias = "namespace_id")]
    namespace: Option<Condition>,
    trigger: Option<Condition>,
    job_id: Option<Condition>,
    event_id: Option<Condition>,
    status: Option<Condition>,
}

pub(super) async fn page(
    State(api): State<Api>,
    Input(query): Input<PageQuery<PageFilter>>,
) -> Result<Json<PageOf<Task>>, ApiError> {
    let filter = TaskFilter {
        namespace: value("namespace", query.filter.namespace.as_ref())?,
        trigger: value("trigger", query.filter.trigger.as_ref())?,
        job_id: value("job_id", query.filter.job_id.as_ref())?,
        event_id: value("event_id", query.filter.event_id.as_ref())?,
        status: values("status", query.filter.status.as_ref())?,
    };
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
