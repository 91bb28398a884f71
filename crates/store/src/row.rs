//! Between rows and the words of core, for both dialects: a dialect says in [`Columns`] how it reads one column,
//! everything else is here. A value that does not fit is a `CorruptRow` that names its column.

use std::collections::BTreeMap;

use hetuflow_core::{
    agent::{Agent, AgentKey, Connection, Duty, ServerKey},
    event::{Event, SourceKind, Verdict},
    fingerprint::Fingerprint,
    id::{AgentId, EventId, InstanceId, JobId, Namespace, ScheduleId, ServerId, StatusToken, TaskId},
    job::Job,
    labels::Lane,
    schedule::ScheduleKind,
    status::Status,
    task::{Lease, NewTask, OutputChunk, Stream, Task, TaskInstance},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    ByTrigger, Ended, Joined, LaneId, Leadership, NotJoined, Page, Piece, Revision, StoreError,
    StoredSchedule, StoredTrigger, WaitingLane,
};

/// The columns of one row by name. Integers of any width come as `i64`.
pub(crate) trait Columns {
    fn uuid(&self, name: &str) -> Result<Uuid, StoreError>;
    fn uuid_or_null(&self, name: &str) -> Result<Option<Uuid>, StoreError>;
    fn text(&self, name: &str) -> Result<String, StoreError>;
    fn text_or_null(&self, name: &str) -> Result<Option<String>, StoreError>;
    fn int(&self, name: &str) -> Result<i64, StoreError>;
    fn flag(&self, name: &str) -> Result<bool, StoreError>;
    fn time(&self, name: &str) -> Result<Timestamp, StoreError>;
    fn time_or_null(&self, name: &str) -> Result<Option<Timestamp>, StoreError>;
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError>;
    fn json_or_null<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError>;
    fn bytes(&self, name: &str) -> Result<Vec<u8>, StoreError>;
}

pub(crate) fn corrupt(column: &str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::CorruptRow(format!("column {column}: {problem}"))
}

/// An integer column in the narrower type that its meaning has.
pub(crate) fn number<T: TryFrom<i64>>(row: &impl Columns, name: &str) -> Result<T, StoreError> {
    let value = row.int(name)?;
    T::try_from(value).map_err(|_| corrupt(name, format_args!("{value} is out of range")))
}

/// A text column that is a checked name.
pub(crate) fn name<T>(row: &impl Columns, column: &str) -> Result<T, StoreError>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    T::try_from(row.text(column)?).map_err(|error| corrupt(column, error))
}

pub(crate) fn status(row: &impl Columns, column: &str) -> Result<Status, StoreError> {
    let number: i16 = number(row, column)?;
    Status::from_number(number).ok_or_else(|| corrupt(column, format_args!("{number} is not a status")))
}

/// The smallest id that a row made at that millisecond can have.
pub(crate) fn first_id(at: Timestamp) -> Uuid {
    let millis = u128::try_from(at.as_millisecond()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// The time in an id, also of one that [`first_id`] made.
pub(crate) fn made_at(id: Uuid) -> Timestamp {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or(0);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The first id after it.
pub(crate) fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// What a stretch of a stock came by: the last of its rows, if it holds as many as it may, and otherwise all before
/// the end. Yields the next place, and whether there may be more.
pub(crate) fn next_place(piece: Piece, looked_at: i64, last: Option<Uuid>) -> (Uuid, bool) {
    match last {
        Some(last) if looked_at >= i64::from(piece.limit) => (after(last), true),
        Some(_) | None => (first_id(piece.before).max(piece.from), false),
    }
}

/// The smallest id of the token's millisecond, and the smallest after it.
pub(crate) fn ids_beside(token: StatusToken) -> Result<[Uuid; 2], StoreError> {
    let at = token.time().ok_or(StoreError::NotFound)?;
    let end = at.checked_add(SignedDuration::from_millis(1)).map_err(|_| StoreError::NotFound)?;
    Ok([first_id(at), first_id(end)])
}

pub(crate) fn leadership(row: &impl Columns) -> Result<Leadership, StoreError> {
    Ok(Leadership { holder: ServerId::from_uuid(row.uuid("holder")?), epoch: row.int("epoch")? })
}

/// An event; a list selects an empty `body`.
pub(crate) fn event(row: &impl Columns) -> Result<Event, StoreError> {
    let kind = row.text("kind")?;
    let verdict = row.text("verdict")?;
    Ok(Event {
        id: EventId::from_uuid(row.uuid("id")?),
        namespace: name::<Namespace>(row, "namespace")?,
        kind: SourceKind::from_name(&kind).ok_or_else(|| corrupt("kind", kind))?,
        source: row.text("source")?,
        event_type: row.text("type")?,
        subject: row.text_or_null("subject")?,
        time: row.time("time")?,
        received_at: row.time("received_at")?,
        content_type: row.text_or_null("content_type")?,
        headers: row.json("headers")?,
        query: row.text_or_null("query")?,
        verdict: Verdict::from_parts(&verdict, row.text_or_null("verdict_reason")?)
            .ok_or_else(|| corrupt("verdict", verdict))?,
        sender: row
            .text_or_null("sender")?
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| corrupt("sender", error))?,
        secret: row.text_or_null("secret")?,
        replay_of: row.uuid_or_null("replay_of")?.map(EventId::from_uuid),
        status_token: row.uuid_or_null("status_token")?.map(StatusToken::from_uuid),
        decisions: row.json("decisions")?,
        body: crate::body::unpacked(row.bytes("body")?, number(row, "body_size")?)?,
    })
}

/// What stands in `decisions` where the trigger decided about an event. Names need no escapes, and quotes within
/// texts have one, so that it stands nowhere else.
pub(crate) fn decision_mark(wanted: &ByTrigger) -> String {
    let name = &wanted.name;
    match wanted.outcome.map(|outcome| serde_json::to_value(outcome).unwrap_or_default()) {
        Some(outcome) => format!("{{\"trigger\":\"{name}\",\"outcome\":{outcome}"),
        None => format!("{{\"trigger\":\"{name}\",\"outcome\":"),
    }
}

/// One version of a trigger's text.
pub(crate) fn revision(row: &impl Columns) -> Result<Revision, StoreError> {
    Ok(Revision {
        revision: row.int("revision")?,
        origin: row.text("origin")?,
        text: row.text("text")?,
        created_at: row.time("created_at")?,
    })
}

/// A task with its lane's `selector` and `agent_id` as `lane_selector` and `lane_agent`.
pub(crate) fn task(row: &impl Columns) -> Result<Task, StoreError> {
    Ok(Task {
        id: TaskId::from_uuid(row.uuid("id")?),
        namespace: name(row, "namespace")?,
        trigger: row.text("trigger_name")?,
        job_id: JobId::from_uuid(row.uuid("job_id")?),
        schedule_id: row.uuid_or_null("schedule_id")?.map(ScheduleId::from_uuid),
        event_id: EventId::from_uuid(row.uuid("event_id")?),
        status: status(row, "status")?,
        outcome: row.json_or_null("outcome")?,
        created_at: row.time("created_at")?,
        run_at: row.time_or_null("queued_for")?.map_or_else(|| row.time("scheduled_at"), Ok)?,
        queued: row.time_or_null("queued_for")?.is_some(),
        finished_at: row.time_or_null("finished_at")?,
        priority: number(row, "priority")?,
        lane: lane(row, "lane_selector", "lane_agent")?,
        policy: row.json("policy")?,
        attempt: number(row, "attempt")?,
        fence: row.int("fence")?,
        cancel_requested: row.flag("cancel_requested")?,
        command: row.json_or_null("command")?,
    })
}

/// A task with the name of its job; one that is gone has none.
pub(crate) fn ended(row: &impl Columns) -> Result<Ended, StoreError> {
    Ok(Ended { task: task(row)?, job: row.text_or_null("job_name")?.unwrap_or_default() })
}

pub(crate) fn lane(row: &impl Columns, selector: &str, agent: &str) -> Result<Lane, StoreError> {
    let agent =
        row.text_or_null(agent)?.map(|text| AgentId::new(text).map_err(|error| corrupt(agent, error)));
    Ok(Lane { selector: row.json(selector)?, agent: agent.transpose()? })
}

pub(crate) fn instance(row: &impl Columns) -> Result<TaskInstance, StoreError> {
    Ok(TaskInstance {
        id: InstanceId::from_uuid(row.uuid("id")?),
        task_id: TaskId::from_uuid(row.uuid("task_id")?),
        job_id: JobId::from_uuid(row.uuid("job_id")?),
        agent_id: name(row, "agent_id")?,
        attempt: number(row, "attempt")?,
        fence: row.int("fence")?,
        status: status(row, "status")?,
        created_at: row.time("created_at")?,
        started_at: row.time_or_null("started_at")?,
        finished_at: row.time_or_null("finished_at")?,
        outcome: row.json_or_null("outcome")?,
        output_dropped: number(row, "output_dropped")?,
    })
}

/// The lease in force of a task: `id`, `instance_id` and `fence` of its row.
pub(crate) fn lease(row: &impl Columns) -> Result<Lease, StoreError> {
    Ok(Lease {
        task_id: TaskId::from_uuid(row.uuid("id")?),
        instance_id: InstanceId::from_uuid(row.uuid("instance_id")?),
        fence: row.int("fence")?,
    })
}

pub(crate) fn output(row: &impl Columns) -> Result<OutputChunk, StoreError> {
    let stream = row.text("stream")?;
    Ok(OutputChunk {
        instance_id: InstanceId::from_uuid(row.uuid("instance_id")?),
        seq: number(row, "seq")?,
        stream: stream_from_name(&stream).ok_or_else(|| corrupt("stream", stream))?,
        data: row.bytes("data")?.into(),
    })
}

/// Kept in microseconds.
fn watermarks(row: &impl Columns) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let micros: BTreeMap<String, i64> = row.json("watermarks")?;
    let time =
        |micros| Timestamp::from_microsecond(micros).map_err(|_| corrupt("watermarks", micros.to_string()));
    micros.into_iter().map(|(key, micros)| Ok((key, time(micros)?))).collect()
}

/// An agent; `connected` and `running` are computed by the query.
pub(crate) fn duty(row: &impl Columns) -> Result<Duty, StoreError> {
    Ok(if row.flag("drained")? { Duty::Drained } else { Duty::Active })
}

pub(crate) fn agent(row: &impl Columns) -> Result<Agent, StoreError> {
    let key = agent_key(row)?;
    // Of an agent that has a key it says when the one before was replaced.
    let key_revoked_at = if key.is_none() { row.time_or_null("revoked_at")? } else { None };
    Ok(Agent {
        id: name(row, "id")?,
        hostname: row.text("hostname")?,
        version: row.text("version")?,
        labels: row.json("labels")?,
        slots: number(row, "slots")?,
        connection: if row.flag("connected")? { Connection::Online } else { Connection::Offline },
        duty: duty(row)?,
        running: number(row, "running")?,
        watermarks: watermarks(row)?,
        key,
        key_revoked_at,
        first_seen_at: row.time("first_seen_at")?,
        last_seen_at: row.time("last_seen_at")?,
    })
}

fn agent_key(row: &impl Columns) -> Result<Option<AgentKey>, StoreError> {
    let Some(joined_at) = row.time_or_null("joined_at")? else { return Ok(None) };
    Ok(Some(AgentKey { fingerprint: fingerprint(row, "fingerprint")?, joined_at }))
}

pub(crate) fn fingerprint(row: &impl Columns, column: &str) -> Result<Fingerprint, StoreError> {
    let bytes = row.bytes(column)?;
    let length = bytes.len();
    bytes.try_into().map(Fingerprint).map_err(|_| corrupt(column, format_args!("{length} bytes, not 32")))
}

pub(crate) fn joined(row: &impl Columns) -> Result<Joined, StoreError> {
    Ok(Joined {
        agent_id: name(row, "agent_id")?,
        labels: row.json_or_null("labels")?,
        joined_at: row.time("joined_at")?,
    })
}

pub(crate) fn server_key(row: &impl Columns) -> Result<ServerKey, StoreError> {
    Ok(ServerKey {
        fingerprint: fingerprint(row, "fingerprint")?,
        first_seen_at: row.time("first_seen_at")?,
        last_seen_at: row.time("last_seen_at")?,
    })
}

/// A token that did not serve, with the key that used it, if there is one. It may be the one that asks.
pub(crate) fn why_not_joined(
    row: &impl Columns,
    agent_id: &AgentId,
) -> Result<Result<Joined, NotJoined>, StoreError> {
    let Some(at) = row.time_or_null("used_at")? else {
        let for_another = row.text_or_null("only_for")?.is_some_and(|id| id != agent_id.as_str());
        let why = if for_another {
            NotJoined::ForAnother(name(row, "only_for")?)
        } else {
            NotJoined::Expired { at: row.time("expires_at")? }
        };
        return Ok(Err(why));
    };
    if !row.flag("same_key")? {
        return Ok(Err(NotJoined::Used { at }));
    }
    if row.time_or_null("revoked_at")?.is_some() {
        return Ok(Err(NotJoined::Revoked));
    }
    joined(row).map(Ok)
}

pub(crate) fn job(row: &impl Columns) -> Result<Job, StoreError> {
    Ok(Job {
        id: JobId::from_uuid(row.uuid("id")?),
        namespace: name(row, "namespace")?,
        name: row.text("name")?,
        description: row.text("description")?,
        revision: row.int("revision")?,
        config: row.json("config")?,
    })
}

/// A trigger without its schedules. `job_id` is that of the job by the trigger's `job_name`, null when there is none.
pub(crate) fn trigger(row: &impl Columns) -> Result<StoredTrigger, StoreError> {
    let job_id = row.uuid_or_null("job_id")?.map(JobId::from_uuid);
    let missing_job = row.text_or_null("job_name")?.filter(|_| job_id.is_none());
    let no_job = |name| format!("the job {name:?} does not exist: declare it, or name one that exists");
    Ok(StoredTrigger {
        namespace: name(row, "namespace")?,
        name: row.text("name")?,
        owner: row.text("owner")?,
        origin: row.text("origin")?,
        revision: row.int("revision")?,
        text: row.text("text")?,
        description: row.text("description")?,
        problem: row.text_or_null("problem")?.or(missing_job.map(no_job)),
        job_id,
        schedules: Vec::new(),
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) fn schedule(row: &impl Columns) -> Result<StoredSchedule, StoreError> {
    let kind = row.text("kind")?;
    Ok(StoredSchedule {
        id: ScheduleId::from_uuid(row.uuid("id")?),
        kind: schedule_kind(&kind).ok_or_else(|| corrupt("kind", kind))?,
        name: row.text("name")?,
        spec: row.json("spec")?,
        created_at: row.time("created_at")?,
        next_run_at: row.time_or_null("next_run_at")?,
        last_run_at: row.time_or_null("last_run_at")?,
    })
}

pub(crate) fn planned_schedule(row: &impl Columns) -> Result<crate::PlannedSchedule, StoreError> {
    Ok(crate::PlannedSchedule {
        namespace: name(row, "namespace")?,
        trigger: row.text("trigger_name")?,
        schedule: schedule(row)?,
        daemon: None,
    })
}

fn schedule_kind(name: &str) -> Option<ScheduleKind> {
    ScheduleKind::ALL.into_iter().find(|kind| kind.name() == name)
}

pub(crate) const fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn stream_from_name(name: &str) -> Option<Stream> {
    [Stream::Stdout, Stream::Stderr].into_iter().find(|stream| stream_name(*stream) == name)
}

/// The canonical text of a lane and the priority of its tasks: its maps are ordered, so equal lanes have equal keys.
pub(crate) fn lane_key(task: &NewTask) -> Result<String, StoreError> {
    Ok(format!("{} {}", task.priority, json(&task.lane)?))
}

/// A lane with its `id`, `selector`, `agent_id`, `priority` and `next_at`.
pub(crate) fn waiting_lane(row: &impl Columns) -> Result<WaitingLane, StoreError> {
    Ok(WaitingLane {
        id: LaneId(row.int("id")?),
        lane: lane(row, "selector", "agent_id")?,
        priority: number(row, "priority")?,
        next_at: row.time("next_at")?,
    })
}

pub(crate) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Conflict(format!("no JSON form: {error}")))
}

/// `created_at` of a row: the millisecond of its own id, by which PostgreSQL finds the partition.
pub(crate) fn created_at(id: Uuid) -> Result<Timestamp, StoreError> {
    EventId::from_uuid(id).time().ok_or_else(|| StoreError::Conflict(format!("{id} is not a UUIDv7")))
}

/// The number of rows of a page that are read.
pub(crate) fn page_limit(page: Page) -> i64 {
    i64::from(page.limit.clamp(1, 500))
}

/// An unsigned number that the database keeps signed; nothing real reaches the bound.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A duration in microseconds, for arithmetic with the database's clock.
pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
