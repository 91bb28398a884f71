//! Stores a batch of events with their keys and tasks in one statement: keys first, then the events whose
//! key is theirs, then the tasks of the events that were stored. Another server's batch with the same
//! key waits on the key's row and then finds it taken.

use std::collections::HashMap;

use hetuflow_core::{
    event::Event,
    id::{EventId, ScheduleId, TaskId},
    status::Status,
    task::{EndReason, NewTask, Outcome},
};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Ingest, Ingested, StoreError,
    postgres::columns::{text, time},
    row::{self, Columns},
};

/// Namespace, scope and key.
type Key = (String, String, String);

/// Yields the answers in the order of the batch.
pub(in crate::postgres) async fn insert(
    connection: &mut PgConnection,
    batch: &[Ingest],
) -> Result<Vec<Ingested>, StoreError> {
    let firsts = firsts(batch);
    // Sorted, so that two servers never wait for each other's keys.
    let mut new: Vec<&Ingest> =
        batch.iter().zip(0..).filter(|(_, n)| firsts[*n] == *n).map(|(i, _)| i).collect();
    new.sort_by_cached_key(|ingest| key(ingest));
    let lanes = lane_ids(connection, &new).await?;
    let stored = store(connection, &new, &lanes).await?;

    let mut answers = Vec::with_capacity(batch.len());
    let mut duplicates = Vec::new();
    for (n, first) in firsts.into_iter().enumerate() {
        let event_id = stored.owner(&batch[first]);
        if first == n && stored.ids.contains(&event_id) {
            answers.push(Ingested::Stored);
        } else {
            duplicates.push(event_id.uuid());
            answers.push(Ingested::Duplicate { event_id, task_ids: Vec::new() });
        }
    }
    if !duplicates.is_empty() {
        add_tasks(connection, &duplicates, &mut answers).await?;
    }
    Ok(answers)
}

/// For each event the place of the first one in the batch that has its key, or its id; mostly its own.
/// A key is not expected to expire within a batch.
fn firsts(batch: &[Ingest]) -> Vec<usize> {
    let (mut keys, mut ids) = (HashMap::new(), HashMap::new());
    let mut firsts = Vec::with_capacity(batch.len());
    for (n, ingest) in batch.iter().enumerate() {
        let by_key = key(ingest).and_then(|key| keys.get(&key).copied());
        let first = by_key.or_else(|| ids.get(&ingest.event.id).copied()).unwrap_or(n);
        if first == n {
            ids.insert(ingest.event.id, n);
            keys.extend(key(ingest).map(|key| (key, n)));
        }
        firsts.push(first);
    }
    firsts
}

fn key(ingest: &Ingest) -> Option<Key> {
    let dedupe = ingest.dedupe.as_ref()?;
    let namespace = ingest.event.namespace.as_str().to_owned();
    Some((namespace, text(&dedupe.scope).into_owned(), text(&dedupe.key).into_owned()))
}

/// What the statement did.
struct Stored {
    ids: Vec<EventId>,
    /// The event that each key of the batch belongs to.
    owners: HashMap<Key, EventId>,
}

impl Stored {
    fn owner(&self, ingest: &Ingest) -> EventId {
        key(ingest).and_then(|key| self.owners.get(&key).copied()).unwrap_or(ingest.event.id)
    }
}

/// An expired key is taken over; one in force is written as it was, which also locks it and yields its event.
/// An event that is stored already (its first answer was lost) yields no row and gets no tasks.
const STORE: &str = "
with key as (
    insert into sched_dedupe as d (namespace, scope, key, event_id, expires_at)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
    on conflict (namespace, scope, key) do update set
        event_id = case when d.expires_at <= $6 then excluded.event_id else d.event_id end,
        expires_at = case when d.expires_at <= $6 then excluded.expires_at else d.expires_at end
    returning namespace, scope, key, event_id
),
event as (
    insert into sched_event (id, created_at, namespace, kind, source, type, subject, time, received_at, content_type,
        headers, query, verdict, verdict_reason, decisions, body)
    select e.id, e.created_at, e.namespace, e.kind, e.source, e.type, e.subject, e.time, e.received_at,
        e.content_type, e.headers::json, e.query, e.verdict, e.verdict_reason, e.decisions::json, e.body
    from unnest($7::uuid[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[],
        $21::text[], $22::bytea[], $23::boolean[])
        as e(id, created_at, namespace, kind, source, type, subject, time, received_at, content_type, headers, query,
        verdict, verdict_reason, decisions, body, keyed)
    where not e.keyed or e.id in (select event_id from key)
    on conflict (id, created_at) do nothing
    returning id
),
task as (
    insert into sched_task (id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, outcome,
        scheduled_at, finished_at, priority, lane_id, policy, command, attempt, fence, cancel_requested)
    select t.id, t.created_at, t.namespace, t.trigger_name, t.job_id, t.schedule_id, t.event_id, t.status,
        t.outcome::json, t.scheduled_at, t.finished_at, t.priority, t.lane_id, t.policy::json, t.command::json,
        0, 0, false
    from unnest($24::uuid[], $25::timestamptz[], $26::text[], $27::text[], $28::uuid[], $29::uuid[], $30::uuid[],
        $31::smallint[], $32::text[], $33::timestamptz[], $34::timestamptz[], $35::smallint[], $36::bigint[],
        $37::text[], $38::text[])
        as t(id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, outcome, scheduled_at,
        finished_at, priority, lane_id, policy, command)
    where t.event_id in (select id from event)
)
select namespace, scope, key, event_id from key
union all
select null, null, null, id from event";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn store(
    connection: &mut PgConnection,
    new: &[&Ingest],
    lanes: &HashMap<String, i64>,
) -> Result<Stored, StoreError> {
    let tasks: Vec<Planned<'_>> = new
        .iter()
        .flat_map(|i| i.tasks.iter().map(|task| Planned::of(task, &i.event, lanes)))
        .collect::<Result<_, _>>()?;
    let query = bind_keys(sqlx::query(STORE), new);
    let query = bind_tasks(bind_events(query, new)?, &tasks)?;
    let mut stored = Stored { ids: Vec::new(), owners: HashMap::new() };
    for row in query.fetch_all(connection).await? {
        let event_id = EventId::from_uuid(row.uuid("event_id")?);
        if let Some(key) = row.text_or_null("key")? {
            stored.owners.insert((row.text("namespace")?, row.text("scope")?, key), event_id);
        } else {
            stored.ids.push(event_id);
        }
    }
    Ok(stored)
}

fn bind_keys<'q>(query: Query<'q>, new: &[&'q Ingest]) -> Query<'q> {
    let keyed: Vec<_> =
        new.iter().filter_map(|i| i.dedupe.as_ref().map(|dedupe| (dedupe, &i.event))).collect();
    let now = new.iter().map(|i| i.event.received_at).min().unwrap_or(Timestamp::MAX);
    query
        .bind(column(&keyed, |(_, event)| event.namespace.as_str()))
        .bind(column(&keyed, |(dedupe, _)| text(&dedupe.scope)))
        .bind(column(&keyed, |(dedupe, _)| text(&dedupe.key)))
        .bind(column(&keyed, |(_, event)| event.id.uuid()))
        .bind(column(&keyed, |(dedupe, _)| time(dedupe.expires_at)))
        .bind(time(now))
}

fn bind_events<'q>(query: Query<'q>, new: &[&'q Ingest]) -> Result<Query<'q>, StoreError> {
    let events: Vec<&'q Event> = new.iter().map(|i| &i.event).collect();
    let created_at =
        events.iter().map(|e| row::created_at(e.id.uuid()).map(time)).collect::<Result<Vec<_>, _>>()?;
    Ok(query
        .bind(column(&events, |e| e.id.uuid()))
        .bind(created_at)
        .bind(column(&events, |e| e.namespace.as_str()))
        .bind(column(&events, |e| e.kind.name()))
        .bind(column(&events, |e| text(&e.source)))
        .bind(column(&events, |e| text(&e.event_type)))
        .bind(column(&events, |e| e.subject.as_deref().map(text)))
        .bind(column(&events, |e| time(e.time)))
        .bind(column(&events, |e| time(e.received_at)))
        .bind(column(&events, |e| e.content_type.as_deref().map(text)))
        .bind(events.iter().map(|e| row::json(&e.headers)).collect::<Result<Vec<_>, _>>()?)
        .bind(column(&events, |e| e.query.as_deref().map(text)))
        .bind(column(&events, |e| e.verdict.name()))
        .bind(column(&events, |e| e.verdict.reason().map(text)))
        .bind(events.iter().map(|e| row::json(&e.decisions)).collect::<Result<Vec<_>, _>>()?)
        .bind(column(&events, |e| e.body.as_ref()))
        .bind(column(new, |i| i.dedupe.is_some())))
}

/// A task with what its row says beyond it. One whose command could not be rendered has ended before it began.
struct Planned<'a> {
    task: &'a NewTask,
    lane_id: i64,
    status: Status,
    outcome: Option<String>,
    finished_at: Option<Timestamp>,
}

impl<'a> Planned<'a> {
    fn of(task: &'a NewTask, event: &Event, lanes: &HashMap<String, i64>) -> Result<Self, StoreError> {
        let key = row::lane_key(&task.lane)?;
        let lane_id = *lanes.get(&key).ok_or_else(|| StoreError::CorruptRow(format!("no lane {key}")))?;
        let render = |problem: &String| row::json(&Outcome::because(EndReason::Render, problem));
        let outcome = task.command.as_ref().err().map(render).transpose()?;
        let (status, finished_at) = match outcome {
            None => (Status::Pending, None),
            Some(_) => (Status::Failed, Some(event.received_at)),
        };
        Ok(Self { task, lane_id, status, outcome, finished_at })
    }
}

fn bind_tasks<'q>(query: Query<'q>, tasks: &[Planned<'q>]) -> Result<Query<'q>, StoreError> {
    let created_at =
        tasks.iter().map(|t| row::created_at(t.task.id.uuid()).map(time)).collect::<Result<Vec<_>, _>>()?;
    let commands = tasks.iter().map(|t| t.task.command.as_ref().ok().map(row::json).transpose());
    Ok(query
        .bind(column(tasks, |t| t.task.id.uuid()))
        .bind(created_at)
        .bind(column(tasks, |t| t.task.namespace.as_str()))
        .bind(column(tasks, |t| text(&t.task.trigger)))
        .bind(column(tasks, |t| t.task.job_id.uuid()))
        .bind(column(tasks, |t| t.task.schedule_id.map(ScheduleId::uuid)))
        .bind(column(tasks, |t| t.task.event_id.uuid()))
        .bind(column(tasks, |t| t.status.number()))
        .bind(column(tasks, |t| t.outcome.clone()))
        .bind(column(tasks, |t| time(t.task.run_at)))
        .bind(column(tasks, |t| t.finished_at.map(time)))
        .bind(column(tasks, |t| t.task.priority))
        .bind(column(tasks, |t| t.lane_id))
        .bind(tasks.iter().map(|t| row::json(&t.task.policy)).collect::<Result<Vec<_>, _>>()?)
        .bind(commands.collect::<Result<Vec<_>, _>>()?))
}

fn column<'a, T, U>(items: &'a [T], value: impl Fn(&'a T) -> U) -> Vec<U> {
    items.iter().map(value).collect()
}

/// The numbers of the batch's lanes by their key. A lane is given its number when it is seen first, for ever,
/// which needs no part in the transaction that follows.
async fn lane_ids(
    connection: &mut PgConnection,
    new: &[&Ingest],
) -> Result<HashMap<String, i64>, StoreError> {
    let mut lanes = HashMap::new();
    for task in new.iter().flat_map(|ingest| &ingest.tasks) {
        lanes.insert(row::lane_key(&task.lane)?, &task.lane);
    }
    let keys: Vec<&str> = lanes.keys().map(String::as_str).collect();
    let mut known = HashMap::new();
    if keys.is_empty() {
        return Ok(known);
    }
    // The second look finds those that this or another server has just made.
    for _ in 0..2 {
        let rows: Vec<(String, i64)> = sqlx::query_as("select key, id from sched_lane where key = any($1)")
            .bind(&keys)
            .fetch_all(&mut *connection)
            .await?;
        known.extend(rows);
        let mut missing: Vec<_> = lanes.iter().filter(|(key, _)| !known.contains_key(*key)).collect();
        if missing.is_empty() {
            break;
        }
        missing.sort_by_key(|(key, _)| *key);
        let selectors =
            missing.iter().map(|(_, lane)| row::json(&lane.selector)).collect::<Result<Vec<_>, _>>()?;
        sqlx::query(
            "insert into sched_lane (key, selector, agent_id)
             select key, selector::json, agent_id from unnest($1::text[], $2::text[], $3::text[]) as l(key, selector, agent_id)
             on conflict (key) do nothing",
        )
        .bind(column(&missing, |(key, _)| key.as_str()))
        .bind(selectors)
        .bind(column(&missing, |(_, lane)| lane.agent.as_ref().map(hetuflow_core::id::AgentId::as_str)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(known)
}

/// Says what the first delivery of each duplicate has caused.
async fn add_tasks(
    connection: &mut PgConnection,
    events: &[Uuid],
    answers: &mut [Ingested],
) -> Result<(), StoreError> {
    let rows: Vec<(Uuid, Uuid)> =
        sqlx::query_as("select event_id, id from sched_task where event_id = any($1) order by id")
            .bind(events)
            .fetch_all(connection)
            .await?;
    for answer in answers {
        if let Ingested::Duplicate { event_id, task_ids } = answer {
            let own = rows.iter().filter(|(event, _)| *event == event_id.uuid());
            task_ids.extend(own.map(|(_, task)| TaskId::from_uuid(*task)));
        }
    }
    Ok(())
}
