//! One schedule at one time: the event, its task, and why it does not run where it does not.

use bytes::Bytes;
use hetuflow_core::{
    event::{DecisionOutcome, Event, SourceKind},
    id::{ScheduleId, TaskId},
    matching::{self, Body, Facts, Plan},
    retry::RetryPolicy,
    schedule::{DaemonSchedule, Overlap},
    task::NewTask,
};
use hetuflow_store::{DaemonStart, Fire, Ingest, Turns};
use jiff::Timestamp;
use serde_json::json;

use super::times::{Step, step};
use crate::triggers::{Clocked, Live};

/// What is stored when the schedule fires for `run_at`, or moves on. Safe to repeat: the store compares the time.
pub(super) fn fire(live: &Live, clocked: &Clocked, run_at: Timestamp, now: Timestamp) -> Fire {
    let step = step(clocked, run_at, now);
    let event = event(live, &clocked.schedule.name, run_at, now, told(&step));
    let (next, tasks) = match step {
        Step::Fire { starts_at, next, .. } => (next, vec![plan(live, clocked.id, &event, starts_at, now)]),
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

/// What is stored when the run of a daemon starts. Safe to repeat, likewise.
pub(super) fn start(
    live: &Live,
    (id, daemon): (ScheduleId, &DaemonSchedule),
    run_at: Timestamp,
    now: Timestamp,
) -> DaemonStart {
    let event = event(live, &daemon.name, run_at, now, ("schedule.fired", DecisionOutcome::Matched, None));
    let policy = RetryPolicy::of_daemon(&live.job);
    let task = NewTask { policy, ..plan(live, id, &event, run_at, now) };
    let ingest = Ingest { event, dedupe: None, tasks: vec![task] };
    DaemonStart { id, run_at, definition: live.job.clone(), ingest }
}

fn plan(live: &Live, id: ScheduleId, event: &Event, run_at: Timestamp, now: Timestamp) -> NewTask {
    let body = Body::parse(event.content_type.as_deref(), &event.body).unwrap_or(Body::Empty);
    let plan = Plan {
        trigger: &live.trigger,
        job_id: live.job_id,
        job: &live.job,
        schedule_id: Some(id),
        agent: None,
        task_id: TaskId::at(now),
        run_at,
        telling: live.telling,
    };
    matching::plan(&plan, &Facts { event, body: &body, file: None })
}

fn turns(clocked: &Clocked) -> Option<Turns> {
    match clocked.schedule.policy.overlap {
        Overlap::Allow => None,
        overlap @ (Overlap::Skip | Overlap::QueueOne | Overlap::QueueAll | Overlap::CancelOld) => {
            Some(Turns { key: clocked.key.clone(), overlap })
        }
    }
}

/// What the event says of it: its type, and the decision with its reason.
type Told = (&'static str, DecisionOutcome, Option<String>);

fn told(step: &Step) -> Told {
    match step {
        Step::Fire { reason, .. } => ("schedule.fired", DecisionOutcome::Matched, reason.clone()),
        Step::Pass { reason, .. } => ("schedule.skipped", DecisionOutcome::Skipped, Some(reason.clone())),
    }
}

/// The event of a fire, and of one that is skipped: it says why.
fn event(live: &Live, name: &str, run_at: Timestamp, now: Timestamp, told: Told) -> Event {
    let (event_type, outcome, reason) = told;
    let body = json!({ "schedule": name, "scheduled_at": run_at });
    Event {
        subject: Some(live.trigger.name.to_string()),
        time: run_at,
        content_type: Some("application/json".to_owned()),
        decisions: vec![live.decision(outcome, reason)],
        body: Bytes::from(body.to_string()),
        ..Event::new(
            SourceKind::Schedule,
            live.trigger.namespace.clone(),
            source(live, name),
            event_type,
            now,
        )
    }
}

/// A URI reference, as CloudEvents asks for: schedules are named `cron 1`.
pub(super) fn source(live: &Live, schedule: &str) -> String {
    format!("/schedules/{}/{}", live.trigger.key(), schedule.replace(' ', "-"))
}
