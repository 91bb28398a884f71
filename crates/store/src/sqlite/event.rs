//! Events on SQLite. The writer is alone, so a batch is simply stored one after the other in one transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use hetuflow_core::{
    event::Event,
    id::{EventId, TaskId},
    status::Status,
    task::{EndReason, NewTask, Outcome},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row};
use uuid::Uuid;

use super::{
    Sqlite, Tx,
    leader::guard,
    task::claim::{insert_instance, slots_in_force},
};
use crate::{Committed, EventFilter, EventStore, Ingest, Ingested, Leadership, Offer, Page, StoreError, row};

#[async_trait]
impl EventStore for Sqlite {
    async fn ingest(&self, batch: &[Ingest], offers: &[Offer]) -> Result<Committed, StoreError> {
        let mut tx = self.begin().await?;
        failpoint!("ingest.before_insert");
        let offers = offers_in_force(&mut tx, offers).await?;
        let mut committed = Committed::default();
        for ingest in batch {
            let answer = insert(&mut tx, ingest, &offers).await?;
            if answer == Ingested::Stored {
                let offered = ingest.tasks.iter().filter_map(|task| offer_for(task, &offers));
                committed.leased.extend(offered.map(|offer| offer.lease));
            }
            committed.answers.push(answer);
        }
        failpoint!("ingest.before_commit");
        tx.commit().await?;
        failpoint!("ingest.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        if batch.iter().map(|ingest| ingest.tasks.len()).sum::<usize>() > committed.leased.len() {
            self.tasks_changed();
        }
        Ok(committed)
    }

    async fn event(&self, id: EventId) -> Result<Event, StoreError> {
        let row = sqlx::query("select * from sched_event where id = ?")
            .bind(id.uuid())
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::event(&row)
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<Event>, StoreError> {
        let ids: Vec<String> = ids.iter().map(|id| id.uuid().simple().to_string()).collect();
        let rows =
            sqlx::query("select * from sched_event where id in (select unhex(value) from json_each(?))")
                .bind(row::json(&ids)?)
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(row::event).collect()
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

/// By task, those offers whose session is the one that the store knows.
async fn offers_in_force<'a>(
    tx: &mut Tx,
    offers: &'a [Offer],
) -> Result<HashMap<TaskId, &'a Offer>, StoreError> {
    let slots = slots_in_force(tx, offers.iter().map(|offer| &offer.slot)).await?;
    let held = |offer: &&Offer| slots.contains(&&offer.slot);
    Ok(offers.iter().filter(held).map(|offer| (offer.lease.task_id, offer)).collect())
}

/// Stores one event with what follows from it, or finds that it is known.
pub(super) async fn insert(
    tx: &mut Tx,
    ingest: &Ingest,
    offers: &HashMap<TaskId, &Offer>,
) -> Result<Ingested, StoreError> {
    let id = ingest.event.id;
    let first = match owner_of_key(tx, ingest).await? {
        None if insert_event(tx, &ingest.event).await? => None,
        // The event itself is here: the answer to its first commit was lost.
        None => Some(id),
        owner => owner,
    };
    if let Some(first) = first {
        let task_ids = tasks_of(tx, first).await?;
        return Ok(Ingested::Duplicate { event_id: first, task_ids });
    }
    for task in &ingest.tasks {
        insert_task(tx, task, ingest.event.received_at, offer_for(task, offers)).await?;
    }
    Ok(Ingested::Stored)
}

/// A task that can never run takes no place.
fn offer_for<'a>(task: &NewTask, offers: &HashMap<TaskId, &'a Offer>) -> Option<&'a Offer> {
    offers.get(&task.id).copied().filter(|_| task.command.is_ok())
}

/// Takes the key, also from an event for which it has expired; or yields the event that has it.
async fn owner_of_key(tx: &mut Tx, ingest: &Ingest) -> Result<Option<EventId>, StoreError> {
    let Some(dedupe) = &ingest.dedupe else { return Ok(None) };
    let taken = sqlx::query(
        "insert into sched_dedupe (namespace, scope, key, event_id, expires_at) values (?, ?, ?, ?, ?) \
         on conflict (namespace, scope, key) do update \
         set event_id = excluded.event_id, expires_at = excluded.expires_at where expires_at <= ?",
    )
    .bind(ingest.event.namespace.as_str())
    .bind(&dedupe.scope)
    .bind(&dedupe.key)
    .bind(ingest.event.id.uuid())
    .bind(dedupe.expires_at.as_microsecond())
    .bind(ingest.event.received_at.as_microsecond())
    .execute(&mut **tx)
    .await?;
    if taken.rows_affected() > 0 {
        return Ok(None);
    }
    let owner: Uuid =
        sqlx::query_scalar("select event_id from sched_dedupe where namespace = ? and scope = ? and key = ?")
            .bind(ingest.event.namespace.as_str())
            .bind(&dedupe.scope)
            .bind(&dedupe.key)
            .fetch_one(&mut **tx)
            .await?;
    Ok(Some(EventId::from_uuid(owner)))
}

async fn tasks_of(tx: &mut Tx, event_id: EventId) -> Result<Vec<TaskId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from sched_task where event_id = ? order by id")
        .bind(event_id.uuid())
        .fetch_all(&mut **tx)
        .await?;
    Ok(ids.into_iter().map(TaskId::from_uuid).collect())
}

/// `false` when it is stored already.
async fn insert_event(tx: &mut Tx, event: &Event) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "insert into sched_event (id, created_at, namespace, kind, source, type, subject, time, received_at, \
         content_type, headers, query, verdict, verdict_reason, decisions, body) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do nothing",
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
    Ok(inserted.rows_affected() > 0)
}

/// A task whose command could not be rendered has ended before it began; one with an offer is leased from the start.
async fn insert_task(
    tx: &mut Tx,
    task: &NewTask,
    received_at: Timestamp,
    offer: Option<&Offer>,
) -> Result<(), StoreError> {
    let (status, outcome) = match (&task.command, offer) {
        (Ok(_), None) => (Status::Pending, None),
        (Ok(_), Some(_)) => (Status::Locked, None),
        (Err(problem), _) => (Status::Failed, Some(Outcome::because(EndReason::Render, problem))),
    };
    let lane_id = lane_id(tx, task).await?;
    sqlx::query(
        "insert into sched_task (id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, \
         outcome, scheduled_at, finished_at, priority, lane_id, policy, attempt, fence, cancel_requested, command, \
         agent_id, instance_id) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
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
    .bind(i64::from(offer.is_some()))
    .bind(offer.map_or(0, |offer| offer.lease.fence))
    .bind(task.command.as_ref().ok().map(row::json).transpose()?)
    .bind(offer.map(|offer| offer.slot.agent_id.as_str()))
    .bind(offer.map(|offer| offer.lease.instance_id.uuid()))
    .execute(&mut **tx)
    .await?;
    match offer {
        Some(offer) => insert_instance(tx, offer.lease, task.job_id, &offer.slot, 1).await,
        None => Ok(()),
    }
}

/// The number of a lane, given to it when it is seen first.
async fn lane_id(tx: &mut Tx, task: &NewTask) -> Result<i64, StoreError> {
    let key = row::lane_key(task)?;
    let known: Option<i64> = sqlx::query_scalar("select id from sched_lane where key = ?")
        .bind(&key)
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(id) = known {
        return Ok(id);
    }
    let row = sqlx::query(
        "insert into sched_lane (key, selector, agent_id, priority) values (?, ?, ?, ?) returning id",
    )
    .bind(&key)
    .bind(row::json(&task.lane.selector)?)
    .bind(task.lane.agent.as_ref().map(hetuflow_core::id::AgentId::as_str))
    .bind(task.priority)
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
