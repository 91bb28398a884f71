//! Tasks and instances for people: one by id, or a page of them.

use hetuflow_core::{
    id::{AgentId, InstanceId, TaskId},
    status::Status,
    task::{EndReason, Task, TaskInstance},
};
use sqlx::QueryBuilder;

use super::Postgres;
use crate::postgres::columns::{at, time};
use crate::{
    Backlog, InstanceFilter, Page, StoreError, TaskFilter, row,
    task::{DEAD, SETTLED_DAEMON},
};

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

pub(super) async fn count(db: &Postgres, filter: &TaskFilter, at_most: u64) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::<sqlx::Postgres>::new(
        "select count(*) as tasks from (select 1 from sched_task t where true",
    );
    push_filter(&mut query, filter);
    query.push(" limit ").push_bind(row::signed(at_most)).push(") counted");
    row::number(&query.build().fetch_one(&db.pool).await?, "tasks")
}

/// The statuses are literals, because only then the partial index serves.
pub(in crate::postgres) const BACKLOG: &str = "select count(*) from (select 1 from (
        select t.namespace, t.trigger_name from sched_lane l
        cross join lateral (select namespace, trigger_name from sched_task
            where lane_id = l.id and status in (1, 2) limit $2) t
        where l.agent_id is not distinct from $1 limit $2) w
    where w.namespace = $3 and w.trigger_name = $4 limit $5) b";

pub(super) async fn backlog(db: &Postgres, backlog: Backlog<'_>) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(BACKLOG)
        .bind(backlog.agent.map(AgentId::as_str))
        .bind(Backlog::LOOK_AT)
        .bind(backlog.namespace.as_str())
        .bind(backlog.trigger)
        .bind(backlog.most())
        .fetch_one(&db.pool)
        .await?;
    Ok(count.cast_unsigned())
}

pub(super) async fn tasks(db: &Postgres, filter: &TaskFilter, page: Page) -> Result<Vec<Task>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Postgres>::new(
        "select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, t.schedule_id, t.event_id, t.status, \
         t.outcome, t.scheduled_at, t.queued_for, t.finished_at, t.priority, t.policy, t.attempt, t.fence, t.cancel_requested, \
         null::json as command, l.selector as lane_selector, l.agent_id as lane_agent \
         from sched_task t join sched_lane l on l.id = t.lane_id where true",
    );
    push_filter(&mut query, filter);
    if let Some(before) = page.before {
        query.push(" and t.id < ").push_bind(before).push(" and t.created_at <= ").push_bind(at(before));
    }
    query.push(" order by t.id desc limit ").push_bind(row::page_limit(page));
    query.build().fetch_all(&db.pool).await?.iter().map(row::task).collect()
}

pub(super) fn push_filter(query: &mut QueryBuilder<sqlx::Postgres>, filter: &TaskFilter) {
    if let Some(namespace) = &filter.namespace {
        query.push(" and t.namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(trigger) = &filter.trigger {
        query.push(" and t.trigger_name = ").push_bind(trigger.clone());
    }
    if let Some(job_id) = filter.job_id {
        query.push(" and t.job_id = ").push_bind(job_id.uuid());
    }
    if let Some(job) = &filter.job {
        let named =
            " and t.job_id in (select j.id from sched_job j where j.namespace = t.namespace and j.name = ";
        query.push(named).push_bind(job.clone()).push(")");
    }
    if let Some(event_id) = filter.event_id {
        query.push(" and t.event_id = ").push_bind(event_id.uuid());
    }
    if let Some(since) = filter.since {
        query.push(" and t.created_at >= ").push_bind(time(since));
    }
    if let Some(until) = filter.until {
        query.push(" and t.created_at < ").push_bind(time(until));
    }
    push_statuses(query, " and t.status in (", &filter.status);
    if !filter.status.is_empty() && filter.status.iter().all(|status| DEAD.contains(status)) {
        // The words of the partial index, which is found by them only.
        query.push(" and t.status in (90, 91, 92)");
    }
    push_reasons(query, &filter.reason);
    if let Some(on_lost) = filter.on_lost {
        query.push(" and t.policy ->> 'on_lost' = ").push_bind(on_lost.name());
        query.push(SETTLED_DAEMON);
    }
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
        // Literals, because only then a partial index serves the query.
        list.push(status.number());
    }
    query.push(")");
}

/// An outcome is compared as it was written, `reason` first: to take its parts out, PostgreSQL would read every
/// escape in it, and a message may hold one that it cannot read (`\u0000`).
fn push_reasons(query: &mut QueryBuilder<sqlx::Postgres>, reasons: &[EndReason]) {
    if reasons.is_empty() {
        return;
    }
    query.push(" and t.outcome::text like any(");
    let beginning = |reason: &EndReason| format!("{{\"reason\":\"{}\"%", reason.name());
    query.push_bind(reasons.iter().map(beginning).collect::<Vec<_>>()).push(")");
}
