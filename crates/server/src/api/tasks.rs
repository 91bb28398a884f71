//! Tasks: planned executions, why they wait, how they went; and an operator's retry and cancel.

pub(super) mod bulk;
mod filter;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    id::{AgentId, TaskId},
    status::Status,
    task::{Task, TaskInstance},
    waiting::Waiting,
};
use hetuflow_store::{Cancelled, DaemonNow, InstanceFilter, Page, ScheduleFilter};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api, ApiError, agents,
    input::{Input, Params, id},
    page::{Items, PageOf, PageQuery},
    waiting::{Facts, Known, Longest, behind, waiting},
};
use filter::{ListQuery, PageFilter};

/// Full agents whose longest task is looked up to say why a task waits, at most.
const MAX_LOOKS: usize = 3;

#[derive(Debug, Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    task: Task,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Items<Listed>>, ApiError> {
    let page = query.page()?;
    let tasks = api.app.store.tasks(&query.filter()?, page).await?;
    let agents = if tasks.iter().any(may_wait) { agents::known(&api).await? } else { Vec::new() };
    let now = api.app.clock.now();
    let listed = |task: Task| {
        let facts =
            Facts { newest: None, agents: &agents, blackout_end: blackout_end(&api, &task, now), now };
        Listed { waiting: waiting(&task, &facts), task }
    };
    let items = tasks.into_iter().map(listed).collect();
    Ok(Json(Items::new(items, page, |listed: &Listed| listed.task.id.uuid())))
}

/// Only then are the agents asked for.
const fn may_wait(task: &Task) -> bool {
    !task.status.is_final()
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
    waiting: Option<Waiting>,
    /// How the daemon is whose run it is, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<Daemon>,
}

#[derive(Debug, Serialize)]
struct Daemon {
    #[serde(flatten)]
    now: DaemonNow,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_at: Option<Timestamp>,
}

pub(super) async fn show(State(api): State<Api>, Path(task): Path<String>) -> Result<Json<Shown>, ApiError> {
    Ok(Json(shown(&api, id(&task)?).await?))
}

async fn shown(api: &Api, id: TaskId) -> Result<Shown, ApiError> {
    let task = api.app.store.task(id).await?;
    let filter = InstanceFilter { task_id: Some(id), ..InstanceFilter::default() };
    let instances = api.app.store.instances(&filter, Page { before: None, limit: 500 }).await?;
    let waiting = why(api, &task, instances.first()).await?;
    let daemon = daemon(api, &task).await?;
    Ok(Shown { task, instances, waiting, daemon })
}

async fn daemon(api: &Api, task: &Task) -> Result<Option<Daemon>, ApiError> {
    let Some(id) = task.schedule_id.filter(|_| task.policy.daemon) else { return Ok(None) };
    let filter = ScheduleFilter { id: Some(id), ..ScheduleFilter::default() };
    let found = api.app.store.schedules(&filter, Page { before: None, limit: 1 }).await?;
    let found = found.into_iter().next();
    Ok(found.and_then(|one| Some(Daemon { now: one.daemon?, next_run_at: one.schedule.next_run_at })))
}

async fn why(api: &Api, task: &Task, newest: Option<&TaskInstance>) -> Result<Option<Waiting>, ApiError> {
    let mut agents = if may_wait(task) { agents::known(api).await? } else { Vec::new() };
    let matching = |agent: &&mut Known| agent.is_full() && task.lane.admits(&agent.id, &agent.labels);
    if task.status.is_waiting() {
        for agent in agents.iter_mut().filter(matching).take(MAX_LOOKS) {
            agent.longest = longest(api, &agent.id).await?;
        }
    }
    if task.queued {
        return Ok(Some(behind(api.app.store.ahead(task.id).await?.as_ref())));
    }
    let now = api.app.clock.now();
    let facts = Facts { newest, agents: &agents, blackout_end: blackout_end(api, task, now), now };
    Ok(waiting(task, &facts))
}

/// When the blackout ends that the task's schedule is in now.
fn blackout_end(api: &Api, task: &Task, now: Timestamp) -> Option<Timestamp> {
    let set = api.app.triggers.current();
    let (trigger, place) = set.by_schedule.get(&task.schedule_id?)?;
    set.live.get(trigger)?.clocks.get(*place)?.schedule.policy.blackout_end(now)
}

/// What the agent has been running longest.
async fn longest(api: &Api, agent_id: &AgentId) -> Result<Option<Longest>, ApiError> {
    let filter = InstanceFilter {
        agent_id: Some(agent_id.clone()),
        status: vec![Status::Running],
        ..InstanceFilter::default()
    };
    let running = api.app.store.instances(&filter, Page { before: None, limit: 500 }).await?;
    let since = |instance: &TaskInstance| instance.started_at.unwrap_or(instance.created_at);
    let longest = running.into_iter().min_by_key(since);
    Ok(longest.map(|instance| Longest { task_id: instance.task_id, since: since(&instance) }))
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
        Cancelled::Now => api.app.hub.tasks_ended(std::iter::once(id)),
        Cancelled::Asked { agent_id, lease } => {
            // Connected elsewhere, or just gone: the stored mark reaches it through the dispatch loop.
            let _ = api.app.hub.cancel(&agent_id, lease);
        }
    }
    Ok(Json(shown(&api, id).await?))
}
