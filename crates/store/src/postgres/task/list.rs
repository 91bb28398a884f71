//! Tasks and instances for people: one by id, or a page of them.

use hetuflow_core::{
    id::{InstanceId, TaskId},
    status::Status,
    task::{Task, TaskInstance},
};
use sqlx::QueryBuilder;

use super::Postgres;
use crate::postgres::columns::at;
use crate::{InstanceFilter, Page, StoreError, TaskFilter, row};

pub(super) async fn task(db: &Postgres, id: TaskId) -> Result<Task, StoreError> {
    let row = sqlx::query(
        "select t.*, l.selector as lane_selector, l.agent_id as lane_agent \
         from sched_task t join sched_lane l on l.id = t.lane_id where t.id = $1 and t.created_at = $2",
    )
    .bind(id.uuid())
    .bind(at(id.uuid()))
    .fetch_optional(&db.pool)
    .await?
    .ok_or(StoreError::NotFound)?;
    row::task(&row)
}

pub(super) async fn tasks(db: &Postgres, filter: &TaskFilter, page: Page) -> Result<Vec<Task>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Postgres>::new(
        "select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, t.schedule_id, t.event_id, t.status, \
         t.outcome, t.scheduled_at, t.finished_at, t.priority, t.policy, t.attempt, t.fence, t.cancel_requested, \
         null::json as command, l.selector as lane_selector, l.agent_id as lane_agent \
         from sched_task t join sched_lane l on l.id = t.lane_id where true",
    );
    if let Some(namespace) = &filter.namespace {
        query.push(" and t.namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(trigger) = &filter.trigger {
        query.push(" and t.trigger_name = ").push_bind(trigger.clone());
    }
    if let Some(job_id) = filter.job_id {
        query.push(" and t.job_id = ").push_bind(job_id.uuid());
    }
    if let Some(event_id) = filter.event_id {
        query.push(" and t.event_id = ").push_bind(event_id.uuid());
    }
    push_statuses(&mut query, " and t.status in (", &filter.status);
    if let Some(before) = page.before {
        query.push(" and t.id < ").push_bind(before).push(" and t.created_at <= ").push_bind(at(before));
    }
    query.push(" order by t.id desc limit ").push_bind(row::page_limit(page));
    query.build().fetch_all(&db.pool).await?.iter().map(row::task).collect()
}

pub(super) async fn instance(db: &Postgres, id: InstanceId) -> Result<TaskInstance, StoreError> {
    let row = sqlx::query("select * from sched_task_instance where id = $1 and created_at = $2")
        .bind(id.uuid())
        .bind(at(id.uuid()))
        .fetch_optional(&db.pool)
        .await?
        .ok_or(StoreError::NotFound)?;
    row::instance(&row)
}

pub(super) async fn instances(
    db: &Postgres,
    filter: &InstanceFilter,
    page: Page,
) -> Result<Vec<TaskInstance>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Postgres>::new("select * from sched_task_instance where true");
    if let Some(task_id) = filter.task_id {
        query.push(" and task_id = ").push_bind(task_id.uuid());
    }
    if let Some(job_id) = filter.job_id {
        query.push(" and job_id = ").push_bind(job_id.uuid());
    }
    if let Some(agent_id) = &filter.agent_id {
        query.push(" and agent_id = ").push_bind(agent_id.as_str().to_owned());
    }
    push_statuses(&mut query, " and status in (", &filter.status);
    if let Some(before) = page.before {
        query.push(" and id < ").push_bind(before).push(" and created_at <= ").push_bind(at(before));
    }
    query.push(" order by id desc limit ").push_bind(row::page_limit(page));
    query.build().fetch_all(&db.pool).await?.iter().map(row::instance).collect()
}

fn push_statuses(query: &mut QueryBuilder<sqlx::Postgres>, clause: &str, statuses: &[Status]) {
    if statuses.is_empty() {
        return;
    }
    query.push(clause);
    let mut list = query.separated(", ");
    for status in statuses {
        list.push_bind(status.number());
    }
    query.push(")");
}
