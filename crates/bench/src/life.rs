//! A life's beginning without HTTP: the event, dedupe key and task that a webhook would be stored as.

use std::time::Duration;

use bytes::Bytes;
use hetuflow_core::{
    Clock,
    event::{DedupeKey, Event, SourceKind},
    id::{JobId, Namespace, TaskId},
    job::{Command, JobSpec},
    labels::Lane,
    retry::{OnLost, RetryPolicy},
    task::{NewTask, Telling},
};
use hetuflow_store::Ingest;
use jiff::Timestamp;

/// Keys are of interest for as long as a webhook's are.
const DEDUPE_FOR: Duration = Duration::from_hours(7 * 24);

/// Makes lives of one job.
pub(crate) struct Life {
    clock: Clock,
    job_id: JobId,
    command: Command,
    policy: RetryPolicy,
}

impl Life {
    pub(crate) fn new(clock: Clock) -> Self {
        let spec = JobSpec::running("true");
        let policy = RetryPolicy {
            max_retries: 0,
            interval: spec.retry_interval,
            retry: spec.retry,
            on_lost: OnLost::Hold,
            daemon: false,
        };
        let command = Command {
            cmd: spec.cmd,
            args: spec.args,
            environment: spec.environment,
            working_dir: None,
            stdin: None,
            user: None,
            timeout: None,
            capture_output: spec.capture_output,
            max_output_size: spec.max_output_size,
            resource_limits: None,
        };
        Self { job_id: JobId::at(clock.now()), clock, command, policy }
    }

    pub(crate) fn ingest(&self, body: Bytes) -> Ingest {
        let now = self.clock.now();
        let event = event(now, body);
        let expires_at = now.checked_add(DEDUPE_FOR).unwrap_or(now);
        let dedupe = DedupeKey::new("/hooks/default/bench".to_owned(), event.id.to_string(), expires_at);
        let task = NewTask {
            id: TaskId::at(now),
            namespace: event.namespace.clone(),
            trigger: "bench".to_owned(),
            job_id: self.job_id,
            schedule_id: None,
            event_id: event.id,
            run_at: now,
            priority: 0,
            lane: Lane::default(),
            policy: self.policy.clone(),
            command: Ok(self.command.clone()),
            telling: Telling::Nothing,
        };
        Ingest { event, dedupe: Some(dedupe), tasks: vec![task] }
    }
}

fn event(now: Timestamp, body: Bytes) -> Event {
    Event {
        content_type: Some("application/json".to_owned()),
        body,
        ..Event::new(SourceKind::Webhook, Namespace::default(), "/hooks/bench", "push", now)
    }
}
