//! One schedule at one time: the event, its task, and why it does not run where it does not.

use bytes::Bytes;
use hetuflow_core::{
    event::{Decision, DecisionOutcome, Event, SourceKind, Verdict},
    id::{EventId, TaskId},
    matching::{self, Body, Facts, Plan},
    schedule::Overlap,
};
use hetuflow_store::{Fire, Ingest, Turns};
use jiff::Timestamp;
use serde_json::json;

use super::times::{Step, step};
use crate::triggers::{Clocked, Live};

/// What is stored when the schedule fires for `run_at`, or moves on. Safe to repeat: the store compares the time.
pub(super) fn fire(live: &Live, clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Fire {
    let step = step(clocked, run_at, now);
    let event = event(live, clocked, run_at, now, &step);
    let (next, tasks) = match step {
        Step::Fire { starts_at, next, .. } => {
            let body = Body::parse(event.content_type.as_deref(), &event.body).unwrap_or(Body::Empty);
            let plan = Plan {
                trigger: &live.trigger,
                job_id: live.job_id,
                job: &live.job,
                schedule_id: Some(clocked.id),
                agent: None,
                task_id: TaskId::at(now),
                run_at: starts_at,
            };
            (next, vec![matching::plan(&plan, &Facts { event: &event, body: &body, file: None })])
        }
        Step::Pass { next, reason } => {
            let trigger = live.trigger.key();
            tracing::warn!(trigger, schedule = clocked.schedule.name, %run_at, reason, "a fire is skipped");
            (next, Vec::new())
        }
    };
    // No dedupe key: the pair of schedule and time is one.
    let ingest = Some(Ingest { event, dedupe: None, tasks });
    Fire { id: clocked.id, run_at, next, ingest, turns: turns(clocked) }
}

fn turns(clocked: &Clocked) -> Option<Turns> {
    match clocked.schedule.policy.overlap {
        Overlap::Allow => None,
        overlap @ (Overlap::Skip | Overlap::QueueOne | Overlap::QueueAll | Overlap::CancelOld) => {
            Some(Turns { key: clocked.key.clone(), overlap })
        }
    }
}

/// The event of a fire, and of one that is skipped: it says why.
fn event(live: &Live, clocked: &Clocked, run_at: Timestamp, now: Timestamp, step: &Step) -> Event {
    let name = &clocked.schedule.name;
    let (event_type, outcome, reason) = match step {
        Step::Fire { reason, .. } => ("schedule.fired", DecisionOutcome::Matched, reason.clone()),
        Step::Pass { reason, .. } => ("schedule.skipped", DecisionOutcome::Skipped, Some(reason.clone())),
    };
    let body = json!({ "schedule": name, "scheduled_at": run_at });
    Event {
        id: EventId::at(now),
        namespace: live.trigger.namespace.clone(),
        kind: SourceKind::Schedule,
        // A URI reference, as CloudEvents asks for: schedules are named `cron 1`.
        source: format!("/schedules/{}/{}", live.trigger.key(), name.replace(' ', "-")),
        event_type: event_type.to_owned(),
        subject: Some(live.trigger.name.to_string()),
        time: run_at,
        received_at: now,
        content_type: Some("application/json".to_owned()),
        headers: Vec::new(),
        query: None,
        verdict: Verdict::Accepted,
        decisions: vec![Decision { trigger: live.trigger.name.to_string(), outcome, reason }],
        body: Bytes::from(body.to_string()),
    }
}
