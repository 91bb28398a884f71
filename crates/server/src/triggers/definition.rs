//! From the text of a trigger file to what the store keeps of it.

use hetuflow_core::{
    condition::Condition,
    duration,
    id::Namespace,
    schedule::{ClockSchedule, DaemonSchedule, Rhythm, ScheduleKind},
    trigger::{self, EventSource, FileSource, Problems, Trigger, TriggerJob, WebhookSource},
};
use hetuflow_store::{NewSchedule, NewTrigger};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{KnownSchemes, schedule_name};

/// Every trigger of the text, or every problem of it.
pub(crate) fn parse_text(
    origin: &str,
    default_name: &str,
    namespace: &Namespace,
    text: &str,
    now: Timestamp,
) -> Result<Vec<NewTrigger>, Problems> {
    let triggers = trigger::parse(origin, default_name, namespace, text, &KnownSchemes)?;
    Ok(triggers.iter().map(|trigger| definition(trigger, origin, text, now)).collect())
}

fn definition(trigger: &Trigger, origin: &str, text: &str, now: Timestamp) -> NewTrigger {
    let (job, job_name) = match &trigger.job {
        TriggerJob::Inline(job) => (Some(job.clone()), trigger.name.to_string()),
        TriggerJob::Named(name) => (None, name.clone()),
    };
    NewTrigger {
        namespace: trigger.namespace.clone(),
        name: trigger.name.to_string(),
        origin: origin.to_owned(),
        text: text.to_owned(),
        description: trigger.description.clone(),
        job,
        job_name,
        schedules: schedules(trigger, now),
    }
}

fn schedules(trigger: &Trigger, now: Timestamp) -> Vec<NewSchedule> {
    let webhooks =
        trigger.webhooks.iter().map(webhook_spec).enumerate().map(|entry| event("webhook", entry, now));
    let files = trigger.files.iter().map(file_spec).enumerate().map(|entry| event("file", entry, now));
    let events = trigger.events.iter().map(event_spec).enumerate().map(|entry| event("event", entry, now));
    let clocks = trigger.clocks.iter().map(|clock| clock_schedule(clock, now));
    let daemons = trigger.daemons.iter().map(|daemon| daemon_schedule(daemon, now));
    webhooks.chain(files).chain(events).chain(clocks).chain(daemons).collect()
}

fn event(kind: &str, (index, spec): (usize, Value), now: Timestamp) -> NewSchedule {
    let name = schedule_name(kind, index);
    NewSchedule { kind: ScheduleKind::Event, name, spec, created_at: now, next_run_at: None }
}

fn webhook_spec(source: &WebhookSource) -> Value {
    json!({
        "path": source.path,
        "scheme": source.scheme,
        "options": source.options,
        "secrets": source.secrets,
        "events": source.events,
        "when": source.when.as_ref().map(Condition::source),
        "max_body": source.max_body,
        "sender_sees": source.sender_sees,
        "response": source.response,
        "allow_from": source.allow_from,
        "observe_until": source.observe_until,
    })
}

fn file_spec(source: &FileSource) -> Value {
    json!(source)
}

fn event_spec(source: &EventSource) -> Value {
    json!({ "type": source.event_type, "when": source.when.as_ref().map(Condition::source) })
}

fn clock_schedule(clock: &ClockSchedule, now: Timestamp) -> NewSchedule {
    NewSchedule {
        kind: clock.rule.kind(),
        name: clock.name.clone(),
        spec: clock_spec(clock),
        created_at: now,
        next_run_at: clock.rule.next_after(now, now),
    }
}

/// It starts at once.
fn daemon_schedule(daemon: &DaemonSchedule, now: Timestamp) -> NewSchedule {
    NewSchedule {
        kind: ScheduleKind::Daemon,
        name: daemon.name.clone(),
        spec: json!(daemon.rule),
        created_at: now,
        next_run_at: Some(now),
    }
}

/// Its rule and its policy, side by side as in the file.
fn clock_spec(clock: &ClockSchedule) -> Value {
    let mut spec = match &clock.rule.rhythm {
        Rhythm::Cron(cron) => json!({
            "expression": cron.expression, "timezone": cron.timezone, "dialect": cron.dialect,
        }),
        Rhythm::Ahead { cron, by } => json!({
            "expression": cron.expression, "timezone": cron.timezone, "dialect": cron.dialect,
            "ahead": duration::format(*by),
        }),
        Rhythm::Interval(interval) => json!({ "every": duration::format(interval.every) }),
        Rhythm::Once(once) => json!({ "at": once.text, "timezone": once.timezone }),
    };
    if let (Value::Object(spec), Value::Object(policy)) = (&mut spec, json!(clock.policy)) {
        spec.extend(policy);
    }
    if let Value::Object(spec) = &mut spec {
        let deadline = clock.deadline.as_ref().map(|deadline| ("deadline", json!(deadline)));
        let start = clock.rule.start.map(|start| ("start", json!(start)));
        let end = clock.rule.end.map(|end| ("end", json!(end)));
        let given = [deadline, start, end].into_iter().flatten();
        spec.extend(given.map(|(key, value)| (key.to_owned(), value)));
    }
    spec
}
