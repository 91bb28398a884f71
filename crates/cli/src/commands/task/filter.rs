//! The filters of `hetuflow task`, in the two forms in which the API takes them.

use hetuflow_core::{status::Status, task::EndReason};
use serde_json::{Map, Value, json};

use crate::args::TaskFilterArgs;

/// For the query of a list.
pub(super) fn query(filter: &TaskFilterArgs) -> Vec<(&'static str, String)> {
    super::query(&[
        ("status", joined(&statuses(filter), Status::name)),
        ("reason", joined(&filter.reason, EndReason::name)),
        ("on_lost", filter.held.then(|| "hold".to_owned())),
        ("trigger", filter.trigger.clone()),
        ("job", filter.job.clone()),
        ("event_id", filter.event.map(|id| id.to_string())),
        ("since", filter.since.map(|time| time.to_string())),
        ("until", filter.until.map(|time| time.to_string())),
    ])
}

/// For the `filter` of a body.
pub(super) fn body(filter: &TaskFilterArgs) -> Value {
    let several = |names: Vec<&str>| (!names.is_empty()).then(|| json!({ "in": names }));
    let one = |value: Option<String>| value.map(|value| json!({ "eq": value }));
    let fields = [
        ("status", several(statuses(filter).into_iter().map(Status::name).collect())),
        ("reason", several(filter.reason.iter().map(|reason| reason.name()).collect())),
        ("on_lost", filter.held.then(|| json!("hold"))),
        ("trigger", one(filter.trigger.clone())),
        ("job", one(filter.job.clone())),
        ("event_id", one(filter.event.map(|id| id.to_string()))),
        ("since", filter.since.map(|time| json!(time))),
        ("until", filter.until.map(|time| json!(time))),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// The filter in words: `failed or timed_out, trigger deploy-site`.
pub(super) fn words(filter: &TaskFilterArgs) -> String {
    let statuses = statuses(filter).into_iter().map(Status::name).collect::<Vec<_>>().join(" or ");
    let reasons =
        filter.reason.iter().map(|reason: &EndReason| reason.name()).collect::<Vec<_>>().join(" or ");
    let parts = [
        Some(statuses),
        filter.held.then(|| "held".to_owned()),
        (!reasons.is_empty()).then(|| format!("reason {reasons}")),
        filter.trigger.as_ref().map(|name| format!("trigger {name}")),
        filter.job.as_ref().map(|name| format!("job {name}")),
        filter.event.map(|id| format!("event {id}")),
        filter.since.map(|time| format!("since {time}")),
        filter.until.map(|time| format!("until {time}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn statuses(filter: &TaskFilterArgs) -> Vec<Status> {
    if filter.held { vec![Status::Lost] } else { filter.status.clone() }
}

fn joined<T: Copy>(items: &[T], name: fn(T) -> &'static str) -> Option<String> {
    (!items.is_empty()).then(|| items.iter().map(|item| name(*item)).collect::<Vec<_>>().join(","))
}
