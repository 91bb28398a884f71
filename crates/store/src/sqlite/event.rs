//! Events on SQLite. The writer is alone, so a batch is simply stored one after the other in one transaction.

use async_trait::async_trait;
use hetuflow_core::{
    event::Event,
    id::{EventId, TaskId},
    labels::Lane,
    status::Status,
    task::{EndReason, NewTask, Outcome},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row};
use uuid::Uuid;

use super::{Sqlite, Tx, leader::guard};
use crate::{EventFilter, EventStore, Ingest, Ingested, Leadership, Page, StoreError, row};

#[async_trait]
impl EventStore for Sqlite {
    async fn ingest(&self, batch: Vec<Ingest>) -> Result<Vec<Ingested>, StoreError> {
        let mut tx = self.begin().await?;
        failpoint!("ingest.before_insert");
        let mut answers = Vec::with_capacity(batch.len());
        for ingest in &batch {
            answers.push(insert(&mut tx, ingest).await?);
        }
        failpoint!("ingest.before_commit");
        tx.commit().await?;
        failpoint!("ingest.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        self.tasks_changed();
        Ok(answers)
    }

    async fn event(&self, id: EventId) -> Result<Event, StoreError> {
        let row = sqlx::query("select * from sched_event where id = ?")
            .bind(id.uuid())
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::event(&row)
    }

    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<Event>, StoreError> {
        let mut query = select_events(filter, page);
        query.build().fetch_all(&self.readers).await?.iter().map(row::event).collect()
    }

    async fn forget_expired_keys(
        &self,
        leadership: Leadership,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        guard(&mut tx, leadership).await?;
        let gone = sqlx::query(
            "delete from sched_dedupe where (namespace, scope, key) in \
             (select namespace, scope, key from sched_dedupe where expires_at <= ? order by expires_at limit ?)",
        )
        .bind(now.as_microsecond())
        .bind(i64::from(limit))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }
}

/// Stores one event with what follows from it, or finds that it is known.
pub(super) async fn insert(tx: &mut Tx, ingest: &Ingest) -> Result<Ingested, StoreError> {
    if let Some(first) = known(tx, ingest).await? {
        let task_ids = tasks_of(tx, first).await?;
        return Ok(Ingested::Duplicate { event_id: first, task_ids });
    }
    insert_key(tx, ingest).await?;
    insert_event(tx, &ingest.event).await?;
    for task in &ingest.tasks {
        insert_task(tx, task, ingest.event.received_at).await?;
    }
    Ok(Ingested::Stored)
}

/// The event that was stored first: by its key, or this very event.
async fn known(tx: &mut Tx, ingest: &Ingest) -> Result<Option<EventId>, StoreError> {
    let mut first: Option<Uuid> = None;
    if let Some(dedupe) = &ingest.dedupe {
        first = sqlx::query_scalar(
            "select event_id from sched_dedupe where namespace = ? and scope = ? and key = ? and expires_at > ?",
        )
        .bind(ingest.event.namespace.as_str())
        .bind(&dedupe.scope)
        .bind(&dedupe.key)
        .bind(ingest.event.received_at.as_microsecond())
        .fetch_optional(&mut **tx)
        .await?;
    }
    if first.is_none() {
        first = sqlx::query_scalar("select id from sched_event where id = ?")
            .bind(ingest.event.id.uuid())
            .fetch_optional(&mut **tx)
            .await?;
    }
    Ok(first.map(EventId::from_uuid))
}

async fn tasks_of(tx: &mut Tx, event_id: EventId) -> Result<Vec<TaskId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from sched_task where event_id = ? order by id")
        .bind(event_id.uuid())
        .fetch_all(&mut **tx)
        .await?;
    Ok(ids.into_iter().map(TaskId::from_uuid).collect())
}

/// Takes the place of an expired key.
async fn insert_key(tx: &mut Tx, ingest: &Ingest) -> Result<(), StoreError> {
    let Some(dedupe) = &ingest.dedupe else { return Ok(()) };
    sqlx::query(
        "insert into sched_dedupe (namespace, scope, key, event_id, expires_at) values (?, ?, ?, ?, ?) \
         on conflict (namespace, scope, key) do update \
         set event_id = excluded.event_id, expires_at = excluded.expires_at",
    )
    .bind(ingest.event.namespace.as_str())
    .bind(&dedupe.scope)
    .bind(&dedupe.key)
    .bind(ingest.event.id.uuid())
    .bind(dedupe.expires_at.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_event(tx: &mut Tx, event: &Event) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_event (id, created_at, namespace, kind, source, type, subject, time, received_at, \
         content_type, headers, query, verdict, verdict_reason, decisions, body) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(event.id.uuid())
    .bind(row::created_at(event.id.uuid())?.as_microsecond())
    .bind(event.namespace.as_str())
    .bind(event.kind.name())
    .bind(&event.source)
    .bind(&event.event_type)
    .bind(&event.subject)
    .bind(event.time.as_microsecond())
    .bind(event.received_at.as_microsecond())
    .bind(&event.content_type)
    .bind(row::json(&event.headers)?)
    .bind(&event.query)
    .bind(event.verdict.name())
    .bind(event.verdict.reason())
    .bind(row::json(&event.decisions)?)
    .bind(event.body.as_ref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A task whose command could not be rendered has ended before it began.
async fn insert_task(tx: &mut Tx, task: &NewTask, received_at: Timestamp) -> Result<(), StoreError> {
    let (status, outcome) = match &task.command {
        Ok(_) => (Status::Pending, None),
        Err(problem) => (Status::Failed, Some(Outcome::because(EndReason::Render, problem))),
    };
    let lane_id = lane_id(tx, &task.lane).await?;
    sqlx::query(
        "insert into sched_task (id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, \
         outcome, scheduled_at, finished_at, priority, lane_id, policy, attempt, fence, cancel_requested, command) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?)",
    )
    .bind(task.id.uuid())
    .bind(row::created_at(task.id.uuid())?.as_microsecond())
    .bind(task.namespace.as_str())
    .bind(&task.trigger)
    .bind(task.job_id.uuid())
    .bind(task.schedule_id.map(hetuflow_core::id::ScheduleId::uuid))
    .bind(task.event_id.uuid())
    .bind(status.number())
    .bind(outcome.as_ref().map(row::json).transpose()?)
    .bind(task.run_at.as_microsecond())
    .bind(outcome.map(|_| received_at.as_microsecond()))
    .bind(task.priority)
    .bind(lane_id)
    .bind(row::json(&task.policy)?)
    .bind(task.command.as_ref().ok().map(row::json).transpose()?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The number of a lane, given to it when it is seen first.
async fn lane_id(tx: &mut Tx, lane: &Lane) -> Result<i64, StoreError> {
    let key = row::lane_key(lane)?;
    let known: Option<i64> = sqlx::query_scalar("select id from sched_lane where key = ?")
        .bind(&key)
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(id) = known {
        return Ok(id);
    }
    let row = sqlx::query("insert into sched_lane (key, selector, agent_id) values (?, ?, ?) returning id")
        .bind(&key)
        .bind(row::json(&lane.selector)?)
        .bind(lane.agent.as_ref().map(hetuflow_core::id::AgentId::as_str))
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.try_get("id")?)
}

fn select_events(filter: &EventFilter, page: Page) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(
        "select id, namespace, kind, source, type, subject, time, received_at, content_type, headers, query, verdict, \
         verdict_reason, decisions, x'' as body from sched_event where true",
    );
    if let Some(namespace) = &filter.namespace {
        query.push(" and namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(kind) = filter.kind {
        query.push(" and kind = ").push_bind(kind.name());
    }
    if let Some(source) = &filter.source {
        query.push(" and (source = ").push_bind(source.clone());
        query.push(" or substr(source, - length(").push_bind(format!("/{source}"));
        query.push(")) = ").push_bind(format!("/{source}")).push(")");
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" and type = ").push_bind(event_type.clone());
    }
    if let Some(verdict) = &filter.verdict {
        query.push(" and verdict = ").push_bind(verdict.clone());
    }
    if let Some(before) = page.before {
        query.push(" and id < ").push_bind(before);
    }
    query.push(" order by id desc limit ").push_bind(row::page_limit(page));
    query
}
