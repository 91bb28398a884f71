//! Tasks and instances for people: one by id, or a page of them.

use hetuflow_core::{
    id::{AgentId, InstanceId, TaskId},
    status::Status,
    task::{Task, TaskInstance},
};
use sqlx::QueryBuilder;

use super::Sqlite;
use crate::{
    Backlog, InstanceFilter, Page, StoreError, TaskFilter, row,
    task::{DEAD, SETTLED_DAEMON},
};

pub(super) async fn task(db: &Sqlite, id: TaskId) -> Result<Task, StoreError> {
    let row = sqlx::query(
        "select t.*, l.selector as lane_selector, l.agent_id as lane_agent \
         from sched_task t join sched_lane l on l.id = t.lane_id where t.id = ?",
    )
    .bind(id.uuid())
    .fetch_optional(&db.readers)
    .await?
    .ok_or(StoreError::NotFound)?;
    row::task(&row)
}

pub(super) async fn count(db: &Sqlite, filter: &TaskFilter, at_most: u64) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::<sqlx::Sqlite>::new(
        "select count(*) as tasks from (select 1 from sched_task t where true",
    );
    push_filter(&mut query, filter);
    query.push(" limit ").push_bind(row::signed(at_most)).push(") counted");
    row::number(&query.build().fetch_one(&db.readers).await?, "tasks")
}

/// The statuses are literals, because only then the partial index serves; it is named, because without statistics
/// SQLite may prefer another.
pub(in crate::sqlite) const BACKLOG: &str = "select count(*) from (select 1 from (
        select t.namespace, t.trigger_name from sched_lane l
        cross join sched_task t indexed by sched_task_claim
        where l.agent_id is ? and t.lane_id = l.id and t.status in (1, 2) limit ?)
    where namespace = ? and trigger_name = ? limit ?)";

pub(super) async fn backlog(db: &Sqlite, backlog: Backlog<'_>) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(BACKLOG)
        .bind(backlog.agent.map(AgentId::as_str))
        .bind(Backlog::LOOK_AT)
        .bind(backlog.namespace.as_str())
        .bind(backlog.trigger)
        .bind(backlog.most())
        .fetch_one(&db.readers)
        .await?;
    Ok(count.cast_unsigned())
}

pub(super) async fn tasks(db: &Sqlite, filter: &TaskFilter, page: Page) -> Result<Vec<Task>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Sqlite>::new(
        "select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, t.schedule_id, t.event_id, t.status, \
         t.outcome, t.scheduled_at, t.queued_for, t.finished_at, t.priority, t.policy, t.attempt, t.fence, t.cancel_requested, \
         null as command, l.selector as lane_selector, l.agent_id as lane_agent \
         from sched_task t join sched_lane l on l.id = t.lane_id where true",
    );
    push_filter(&mut query, filter);
    if let Some(before) = page.before {
        query.push(" and t.id < ").push_bind(before);
    }
    query.push(" order by t.id desc limit ").push_bind(row::page_limit(page));
    query.build().fetch_all(&db.readers).await?.iter().map(row::task).collect()
}

pub(super) fn push_filter(query: &mut QueryBuilder<sqlx::Sqlite>, filter: &TaskFilter) {
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
        query.push(" and t.created_at >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        query.push(" and t.created_at < ").push_bind(until.as_microsecond());
    }
    push_statuses(query, " and t.status in (", &filter.status);
    if !filter.status.is_empty() && filter.status.iter().all(|status| DEAD.contains(status)) {
        // The words of the partial index, which is found by them only.
        query.push(" and t.status in (90, 91, 92)");
    }
    push_names(
        query,
        " and t.outcome ->> 'reason' in (",
        filter.reason.iter().map(|reason| reason.name().to_owned()),
    );
    if let Some(on_lost) = filter.on_lost {
        query.push(" and t.policy ->> 'on_lost' = ").push_bind(on_lost.name());
        query.push(SETTLED_DAEMON);
    }
}

pub(in crate::sqlite) const INSTANCE: &str = "select * from sched_task_instance where id = ?";

pub(super) async fn instance(db: &Sqlite, id: InstanceId) -> Result<TaskInstance, StoreError> {
    let row = sqlx::query(INSTANCE)
        .bind(id.uuid())
        .fetch_optional(&db.readers)
        .await?
        .ok_or(StoreError::NotFound)?;
    row::instance(&row)
}

pub(super) async fn instances(
    db: &Sqlite,
    filter: &InstanceFilter,
    page: Page,
) -> Result<Vec<TaskInstance>, StoreError> {
    let mut query = QueryBuilder::<sqlx::Sqlite>::new("select * from sched_task_instance where true");
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
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(row::page_limit(page));
    query.build().fetch_all(&db.readers).await?.iter().map(row::instance).collect()
}

fn push_statuses(query: &mut QueryBuilder<sqlx::Sqlite>, clause: &str, statuses: &[Status]) {
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

fn push_names(
    query: &mut QueryBuilder<sqlx::Sqlite>,
    clause: &str,
    names: impl ExactSizeIterator<Item = String>,
) {
    if names.len() == 0 {
        return;
    }
    query.push(clause);
    let mut list = query.separated(", ");
    for name in names {
        list.push_bind(name);
    }
    query.push(")");
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Execute as _, Row};

    use super::*;
    use crate::{Options, sqlite::open::open_file};

    #[tokio::test]
    async fn what_ended_badly_is_found_without_reading_the_rest() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}/test.db", folder.path().display());
        let db = open_file(&Options { url, pool_size: 1 }).await.expect("a new database");
        let filter = TaskFilter { status: vec![Status::Failed, Status::Lost], ..TaskFilter::default() };
        let mut query =
            QueryBuilder::<sqlx::Sqlite>::new("explain query plan select t.id from sched_task t where true");
        push_filter(&mut query, &filter);
        query.push(" order by t.id");
        let text = query.build().sql().as_str().to_owned();
        let plan = sqlx::query(AssertSqlSafe(text)).fetch_all(&db.readers).await.expect("a plan");
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains("sched_task_dead")), "{steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
    }
}
