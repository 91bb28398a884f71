//! Which tasks are meant: the same fields in the query of a list and in the `filter` of a body.

use std::str::FromStr;

use hetuflow_core::{
    id::{EventId, JobId, Namespace},
    retry::OnLost,
};
use hetuflow_store::{Page, TaskFilter};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::api::{
    ApiError,
    input::parsed,
    page::{Condition, cursor_page, value, values},
};

/// The query of `GET tasks` and `GET tasks/count`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ListQuery {
    namespace: Option<Namespace>,
    trigger: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    job_id: Option<JobId>,
    job: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    event_id: Option<EventId>,
    /// Names or numbers, separated by commas.
    status: Option<String>,
    /// Likewise.
    reason: Option<String>,
    on_lost: Option<OnLost>,
    #[serde(default, deserialize_with = "parsed")]
    since: Option<Timestamp>,
    #[serde(default, deserialize_with = "parsed")]
    until: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<Uuid>,
}

impl ListQuery {
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        cursor_page(self.limit, self.cursor)
    }

    pub(super) fn filter(self) -> Result<TaskFilter, ApiError> {
        Ok(TaskFilter {
            namespace: self.namespace,
            trigger: self.trigger,
            job_id: self.job_id,
            job: self.job,
            event_id: self.event_id,
            status: listed(self.status.as_deref())?,
            reason: listed(self.reason.as_deref())?,
            on_lost: self.on_lost,
            since: self.since,
            until: self.until,
        })
    }
}

fn listed<T: FromStr>(text: Option<&str>) -> Result<Vec<T>, ApiError>
where
    T::Err: std::fmt::Display,
{
    let parse = |one: &str| one.trim().parse().map_err(|error| ApiError::BadRequest(format!("{error}")));
    text.map_or_else(|| Ok(Vec::new()), |text| text.split(',').map(parse).collect())
}

/// The fields of `filter` in `POST tasks/page`, `tasks/retry` and `tasks/cancel`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PageFilter {
    #[serde(alias = "namespace_id")]
    namespace: Option<Condition>,
    trigger: Option<Condition>,
    job_id: Option<Condition>,
    job: Option<Condition>,
    event_id: Option<Condition>,
    status: Option<Condition>,
    reason: Option<Condition>,
    on_lost: Option<OnLost>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl PageFilter {
    pub(super) fn filter(&self) -> Result<TaskFilter, ApiError> {
        Ok(TaskFilter {
            namespace: value("namespace", self.namespace.as_ref())?,
            trigger: value("trigger", self.trigger.as_ref())?,
            job_id: value("job_id", self.job_id.as_ref())?,
            job: value("job", self.job.as_ref())?,
            event_id: value("event_id", self.event_id.as_ref())?,
            status: values("status", self.status.as_ref())?,
            reason: values("reason", self.reason.as_ref())?,
            on_lost: self.on_lost,
            since: self.since,
            until: self.until,
        })
    }
}
