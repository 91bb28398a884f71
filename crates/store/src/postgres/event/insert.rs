//! Stores a batch of events with their keys and tasks in one statement: keys first, then the events whose
//! key is theirs, then the tasks of the events that were stored. Another server's batch with the same
//! key waits on the key's row and then finds it taken.

use std::collections::{HashMap, HashSet};

use hetuflow_core::{
    event::Event,
    id::{EventId, InstanceId, ScheduleId, StatusToken, TaskId},
    status::Status,
    task::{EndReason, Lease, NewTask, Outcome},
};
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Committed, Ingest, Ingested, Offer, StoreError, body,
    lanes::Lanes,
    postgres::{
        columns::{at, text, time},
        lanes,
    },
    row::{self, Columns},
};

/// Namespace, scope and key.
type Key = (String, String, String);

pub(in crate::postgres) async fn insert(
    connection: &mut PgConnection,
    lanes: &Lanes,
    batch: &[Ingest],
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    let firsts = firsts(batch);
    // Sorted, so that two servers never wait for each other's keys.
    let mut new: Vec<&Ingest> =
        batch.iter().zip(0..).filter(|(_, n)| firsts[*n] == *n).map(|(i, _)| i).collect();
    new.sort_by_cached_key(|ingest| key(ingest));
    let lanes = lanes::ids(lanes, connection, new.iter().flat_map(|ingest| &ingest.tasks)).await?;
    let stored = store(connection, &new, &lanes, offers).await?;

    let mut answers = Vec::with_capacity(batch.len());
    let mut duplicates = Vec::new();
    for (n, first) in firsts.into_iter().enumerate() {
        let event_id = stored.owner(&batch[first]);
        if first == n && stored.ids.contains(&event_id) {
            answers.push(Ingested::Stored);
        } else {
            duplicates.push(event_id.uuid());
            answers.push(Ingested::duplicate_of(event_id));
        }
    }
    if !duplicates.is_empty() {
        add_tasks(connection, &duplicates, &mut answers).await?;
    }
    Ok(Committed { answers, leased: stored.leased })
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
    ids: HashSet<EventId>,
    /// The event that each key of the batch belongs to.
    owners: HashMap<Key, EventId>,
    leased: Vec<Lease>,
}

impl Stored {
    fn owner(&self, ingest: &Ingest) -> EventId {
        key(ingest).and_then(|key| self.owners.get(&key).copied()).unwrap_or(ingest.event.id)
    }
}

/// `agent` locks the sessions that have offers against a hello, as a claim does: a task whose offer comes from another
/// session waits. An expired key is taken over; one in force is written as it was, which also locks it and yields its event.
/// An event that is stored already (its first answer was lost) yields no row and gets no tasks.
pub(in crate::postgres) const STORE: &str = "
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
        headers, query, verdict, verdict_reason, sender, secret, replay_of, status_token, decisions, body_size,
        body)
    select e.id, e.created_at, e.namespace, e.kind, e.source, e.type, e.subject, e.time, e.received_at,
        e.content_type, e.headers::json, e.query, e.verdict, e.verdict_reason, e.sender, e.secret,
        e.replay_of, e.status_token, e.decisions::json, e.body_size, e.body
    from unnest($7::uuid[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[],
        $21::text[], $22::bytea[], $23::boolean[], $44::text[], $45::uuid[], $46::integer[], $47::uuid[],
        $48::text[])
        as e(id, created_at, namespace, kind, source, type, subject, time, received_at, content_type, headers, query,
        verdict, verdict_reason, decisions, body, keyed, secret, replay_of, body_size, status_token, sender)
    where not e.keyed or e.id in (select event_id from key)
    on conflict (id, created_at) do nothing
    returning id
),
agent as materialized (
    select id, session_epoch from sched_agent where id = any($39::text[]) order by id for share
),
planned as materialized (
    select t.*, a.id as holder
    from unnest($24::uuid[], $25::timestamptz[], $26::text[], $27::text[], $28::uuid[], $29::uuid[], $30::uuid[],
        $31::smallint[], $32::text[], $33::timestamptz[], $34::timestamptz[], $35::smallint[], $36::bigint[],
        $37::text[], $38::text[], $40::text[], $41::bigint[], $42::uuid[], $43::timestamptz[], $49::smallint[])
        as t(id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, outcome, scheduled_at,
        finished_at, priority, lane_id, policy, command, offer_agent, offer_epoch, instance_id, instance_at,
        telling)
    left join agent a on a.id = t.offer_agent and a.session_epoch = t.offer_epoch
    where t.event_id in (select id from event)
),
task as (
    insert into sched_task (id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, outcome,
        scheduled_at, finished_at, priority, lane_id, policy, command, attempt, fence, cancel_requested, agent_id,
        instance_id, leased_at, telling)
    select id, created_at, namespace, trigger_name, job_id, schedule_id, event_id,
        case when holder is null then status else 5 end, outcome::json, scheduled_at, finished_at, priority, lane_id,
        policy::json, command::json, (holder is not null)::int, (holder is not null)::int, false, holder,
        case when holder is not null then instance_id end, case when holder is not null then instance_at end,
        telling
    from planned
)
select namespace, scope, key, event_id, null::uuid as instance_id from key
union all
select null, null, null, id, null from event
union all
select null, null, null, id, instance_id from planned where holder is not null";

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn store(
    connection: &mut PgConnection,
    new: &[&Ingest],
    lanes: &HashMap<String, i64>,
    offers: &[Offer],
) -> Result<Stored, StoreError> {
    let offers: HashMap<TaskId, &Offer> = offers.iter().map(|offer| (offer.lease.task_id, offer)).collect();
    let tasks: Vec<Planned<'_>> = new
        .iter()
        .flat_map(|i| i.tasks.iter().map(|task| Planned::of(task, &i.event, lanes, &offers)))
        .collect::<Result<_, _>>()?;
    let query = bind_keys(sqlx::query(STORE), new);
    let query = bind_journal(bind_tasks(bind_events(query, new)?, &tasks)?, new)
        .bind(column(&tasks, |t| t.task.telling.number()));
    let mut stored = Stored { ids: HashSet::new(), owners: HashMap::new(), leased: Vec::new() };
    for row in query.fetch_all(connection).await? {
        let id = row.uuid("event_id")?;
        if let Some(instance) = row.uuid_or_null("instance_id")? {
            let (task_id, instance_id) = (TaskId::from_uuid(id), InstanceId::from_uuid(instance));
            stored.leased.push(Lease { task_id, instance_id, fence: 1 });
        } else if let Some(key) = row.text_or_null("key")? {
            let key = (row.text("namespace")?, row.text("scope")?, key);
            stored.owners.insert(key, EventId::from_uuid(id));
        } else {
            stored.ids.insert(EventId::from_uuid(id));
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
        .bind(column(&events, |e| body::packed(&e.body).into_owned()))
        .bind(column(new, |i| i.dedupe.is_some())))
}

fn bind_journal<'q>(query: Query<'q>, new: &[&'q Ingest]) -> Query<'q> {
    query
        .bind(column(new, |i| i.event.secret.as_deref().map(text)))
        .bind(column(new, |i| i.event.replay_of.map(EventId::uuid)))
        .bind(column(new, |i| body::size(&i.event.body)))
        .bind(column(new, |i| i.event.status_token.map(StatusToken::uuid)))
        .bind(column(new, |i| i.event.sender.map(|sender| sender.to_string())))
}

/// A task with what its row says beyond it. One whose command could not be rendered has ended before it began.
struct Planned<'a> {
    task: &'a NewTask,
    lane_id: i64,
    status: Status,
    outcome: Option<String>,
    finished_at: Option<Timestamp>,
    offer: Option<&'a Offer>,
}

impl<'a> Planned<'a> {
    fn of(
        task: &'a NewTask,
        event: &Event,
        lanes: &HashMap<String, i64>,
        offers: &HashMap<TaskId, &'a Offer>,
    ) -> Result<Self, StoreError> {
        let key = row::lane_key(task)?;
        let lane_id = *lanes.get(&key).ok_or_else(|| StoreError::CorruptRow(format!("no lane {key}")))?;
        let render = |problem: &String| row::json(&Outcome::because(EndReason::Render, problem));
        let outcome = task.command.as_ref().err().map(render).transpose()?;
        let (status, finished_at) = match outcome {
            None => (Status::Pending, None),
            Some(_) => (Status::Failed, Some(event.received_at)),
        };
        let offer = offers.get(&task.id).copied().filter(|_| outcome.is_none());
        Ok(Self { task, lane_id, status, outcome, finished_at, offer })
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
        .bind(commands.collect::<Result<Vec<_>, _>>()?)
        .bind(
            tasks
                .iter()
                .filter_map(|t| t.offer)
                .map(|offer| offer.slot.agent_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(column(tasks, |t| t.offer.map(|offer| offer.slot.agent_id.as_str())))
        .bind(column(tasks, |t| t.offer.map(|offer| offer.slot.session_epoch)))
        .bind(column(tasks, |t| t.offer.map(|offer| offer.lease.instance_id.uuid())))
        .bind(column(tasks, |t| t.offer.map(|offer| at(offer.lease.instance_id.uuid())))))
}

fn column<'a, T, U>(items: &'a [T], value: impl Fn(&'a T) -> U) -> Vec<U> {
    items.iter().map(value).collect()
}

pub(in crate::postgres) const TASKS_OF: &str =
    "select event_id, id from sched_task where event_id = any($1) order by id";

/// Says what the first delivery of each duplicate has caused.
pub(super) async fn add_tasks(
    connection: &mut PgConnection,
    events: &[Uuid],
    answers: &mut [Ingested],
) -> Result<(), StoreError> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(TASKS_OF).bind(events).fetch_all(connection).await?;
    for answer in answers {
        if let Ingested::Duplicate { event_id, task_ids, .. } = answer {
            let own = rows.iter().filter(|(event, _)| *event == event_id.uuid());
            task_ids.extend(own.map(|(_, task)| TaskId::from_uuid(*task)));
        }
    }
    Ok(())
}
