//! `schedules/item`: a schedule for a job that exists, without a file. It becomes a trigger `JOB.NAME` that names the job.

use axum::{Json, extract::State};
use hetuflow_core::{
    id::{JobId, ScheduleId},
    schedule::ScheduleKind,
    trigger::FileChange,
};
use hetuflow_store::StoreError;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::{
    Api, ApiError,
    declare::{Origin, declare},
    input::Input,
};

#[derive(Debug, Deserialize)]
pub(crate) struct NewSchedule {
    job_id: JobId,
    name: String,
    kind: ScheduleKind,
    #[serde(default = "yes")]
    enabled: bool,
    cron_expression: Option<Value>,
    interval_seconds: Option<Value>,
    start_time: Option<Value>,
    end_time: Option<Value>,
    event_type: Option<String>,
    #[serde(default)]
    event_filter: Map<String, Value>,
    /// Every other key of the kind's table, as in a file: `timezone`, `missed`, `overlap`.
    #[serde(flatten)]
    more: Map<String, Value>,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// None while it is not enabled.
    id: Option<ScheduleId>,
    job_id: JobId,
    name: String,
    kind: ScheduleKind,
    enabled: bool,
    /// What `DELETE triggers/{name}` ends it by.
    trigger: String,
    spec: Option<Value>,
    next_run_at: Option<Timestamp>,
}

pub(crate) async fn create(
    State(api): State<Api>,
    Input(new): Input<NewSchedule>,
) -> Result<(StatusCode, Json<Made>), ApiError> {
    let job = match api.app.store.job(new.job_id).await {
        Err(StoreError::NotFound) => {
            return Err(ApiError::NotFound(format!("there is no job {}", new.job_id)));
        }
        found => found?,
    };
    let (job_id, name, kind, enabled) = (new.job_id, new.name.clone(), new.kind, new.enabled);
    let trigger = format!("{}.{name}", job.name);
    let declared = declare(&api, Origin::Schedules, &job.namespace, &trigger, file(new, job.name)?).await?;
    let status = if declared.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let (id, next_run_at, spec) = match declared.stored.schedules.into_iter().next() {
        Some(schedule) => (Some(schedule.id), schedule.next_run_at, Some(schedule.spec)),
        None => (None, None, None),
    };
    Ok((status, Json(Made { id, job_id, name, kind, enabled, trigger, spec, next_run_at })))
}

fn file(new: NewSchedule, job: String) -> Result<Map<String, Value>, ApiError> {
    let enabled = new.enabled;
    let (kind, table) = source(new)?;
    Ok(Map::from_iter([
        ("job".to_owned(), Value::String(job)),
        ("enabled".to_owned(), Value::Bool(enabled)),
        ("on".to_owned(), json!({ kind: table })),
    ]))
}

/// The `[on.KIND]` that it stands for. What does not belong to the kind is refused by the reader of files, under its name.
fn source(new: NewSchedule) -> Result<(&'static str, Map<String, Value>), ApiError> {
    let mut table = new.more;
    let given = [
        ("expression", new.cron_expression),
        ("every", new.interval_seconds),
        ("start", new.start_time),
        ("end", new.end_time),
    ];
    table.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    if new.kind != ScheduleKind::Event {
        return Ok((new.kind.name(), table));
    }
    let Some(event_type) = new.event_type else {
        let help = "an event schedule needs an event_type: \"file.arrived\", \"order.paid\"";
        return Err(ApiError::BadRequest(help.to_owned()));
    };
    let change =
        event_type.strip_prefix("file.").and_then(|change| FileChange::deserialize(json!(change)).ok());
    // Of notices nothing is watched for: other triggers tell them.
    if let Some(change) = change.filter(|change| !change.is_notice()) {
        table.insert("events".to_owned(), json!([change]));
        table.extend(new.event_filter.into_iter().map(|(key, value)| match key.as_str() {
            "path" => ("paths".to_owned(), one_or_many(value)),
            _ => (key, value),
        }));
        return Ok(("file", table));
    }
    table.insert("type".to_owned(), Value::String(event_type));
    table.extend(condition(&new.event_filter).map(|when| ("when".to_owned(), Value::String(when))));
    Ok(("event", table))
}

fn one_or_many(value: Value) -> Value {
    if value.is_array() { value } else { json!([value]) }
}

/// Every field of the event's data must be what the filter says.
fn condition(filter: &Map<String, Value>) -> Option<String> {
    let clauses: Vec<String> =
        filter.iter().map(|(key, value)| format!("body[{}] == {value}", json!(key))).collect();
    (!clauses.is_empty()).then(|| clauses.join(" && "))
}
