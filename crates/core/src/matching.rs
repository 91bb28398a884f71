//! From an event to tasks: which trigger matches, why not, and what exactly shall run. Pure.

use jiff::Timestamp;

use crate::{
    event::{Decision, Event, FileFacts},
    id::{AgentId, JobId, ScheduleId, TaskId},
    job::JobSpec,
    task::NewTask,
    trigger::{EventSource, Trigger, WebhookSource},
};

/// The body of an event as conditions and templates see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `application/json` and `+json`.
    Json(serde_json::Value),
    /// `application/x-www-form-urlencoded`: an object of texts; a `payload` field that holds JSON is
    /// the body itself, as GitHub sends it.
    Form(serde_json::Value),
    /// Any other text: `body` is a string.
    Text(String),
    /// Not UTF-8: conditions see null.
    Bytes,
    Empty,
}

impl Body {
    /// The error says why the bytes are not what the content type says (or nest too deep).
    pub fn parse(_content_type: Option<&str>, _bytes: &[u8]) -> Result<Self, String> {
        todo!()
    }
}

/// What conditions and templates look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub event: &'a Event,
    pub body: &'a Body,
    pub file: Option<&'a FileFacts>,
}

/// Whether a webhook source of `trigger` takes the event.
pub fn decide_webhook(_trigger: &Trigger, _source: &WebhookSource, _facts: &Facts<'_>) -> Decision {
    todo!()
}

/// Whether an `[on.event]` source of `trigger` takes the event.
pub fn decide_event(_trigger: &Trigger, _source: &EventSource, _facts: &Facts<'_>) -> Decision {
    todo!()
}

/// What a matched trigger plans: identity and place come from the caller, the command from the job
/// with its templates replaced. A template that finds no value makes a task with an `Err` command.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub trigger: &'a Trigger,
    pub job_id: JobId,
    pub job: &'a JobSpec,
    pub schedule_id: Option<ScheduleId>,
    /// The agent that the task must run on, for a file that only it can see.
    pub agent: Option<&'a AgentId>,
    pub task_id: TaskId,
    pub run_at: Timestamp,
}

pub fn plan(_plan: &Plan<'_>, _facts: &Facts<'_>) -> NewTask {
    todo!()
}
