//! One schedule at one time: the event, its task, and the statement that stores them once.

use bytes::Bytes;
use hetuflow_core::{
    event::{Decision, DecisionOutcome, Event, SourceKind, Verdict},
    id::{EventId, TaskId},
    matching::{self, Body, Facts, Plan},
};
use hetuflow_store::{Fire, Fired, Ingest, StoreError};
use jiff::Timestamp;
use serde_json::json;

use super::times::{Step, step};
use crate::{
    AppState,
    triggers::{Clocked, Live},
};

/// Fires the schedule for `run_at`, or moves it on. Safe to repeat: the store compares the time.
pub(super) async fn fire(
    state: &AppState,
    live: &Live,
    clocked: &Clocked,
    run_at: Timestamp,
) -> Result<Fired, StoreError> {
    let now = state.clock.now();
    let (next, ingest) = match step(clocked, run_at, now) {
        Step::Fire { next } => (next, Some(ingest(live, clocked, run_at, now))),
        Step::Pass { next } => (next, None),
    };
    let ran = ingest.is_some();
    let fired = state.store.fire(Fire { id: clocked.id, run_at, next, ingest }).await?;
    match (fired, ran) {
        (Fired::Elsewhere, _) => {}
        (Fired::Stored, true) => state.metrics.schedules_fired.inc(),
        (Fired::Stored, false) => {
            let trigger = live.trigger.key();
            tracing::warn!(trigger, schedule = clocked.name, missed = %run_at, "a time was missed and is passed over");
        }
    }
    Ok(fired)
}

fn ingest(live: &Live, clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Ingest {
    let event = event(live, clocked, run_at, now);
    let body = Body::parse(event.content_type.as_deref(), &event.body).unwrap_or(Body::Empty);
    let plan = Plan {
        trigger: &live.trigger,
        job_id: live.job_id,
        job: &live.job,
        schedule_id: Some(clocked.id),
        agent: None,
        task_id: TaskId::at(now),
        run_at,
    };
    let task = matching::plan(&plan, &Facts { event: &event, body: &body, file: None });
    // No dedupe key: the pair of schedule and time is one.
    Ingest { event, dedupe: None, tasks: vec![task] }
}

fn event(live: &Live, clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Event {
    let body = json!({ "schedule": clocked.name, "scheduled_at": run_at });
    Event {
        id: EventId::at(now),
        namespace: live.trigger.namespace.clone(),
        kind: SourceKind::Schedule,
        // A URI reference, as CloudEvents asks for: schedules are named `cron 1`.
        source: format!("/schedules/{}/{}", live.trigger.key(), clocked.name.replace(' ', "-")),
        event_type: "schedule.fired".to_owned(),
        subject: Some(live.trigger.name.to_string()),
        time: run_at,
        received_at: now,
        content_type: Some("application/json".to_owned()),
        headers: Vec::new(),
        query: None,
        verdict: Verdict::Accepted,
        decisions: vec![Decision {
            trigger: live.trigger.name.to_string(),
            outcome: DecisionOutcome::Matched,
            reason: None,
        }],
        body: Bytes::from(body.to_string()),
    }
}
