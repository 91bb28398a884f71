//! `hetuflow schedule ..`: clocks and daemons.

use hetuflow_core::{id::ScheduleId, schedule::ScheduleKind};
use hetuflow_store::{DaemonNow, DaemonState, PlannedSchedule};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{query, task::ended, typed};
use crate::{
    args::{PageArgs, ScheduleVerb},
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, plain, time},
};

/// The answer about the next fires of one schedule.
#[derive(Debug, Deserialize)]
struct Next {
    #[serde(flatten)]
    planned: PlannedSchedule,
    items: Vec<Fire>,
}

#[derive(Debug, Deserialize)]
struct Fire {
    at: Timestamp,
    local: String,
    timezone: String,
    starts_at: Option<Timestamp>,
    notes: Vec<String>,
}

pub(crate) async fn run(verb: ScheduleVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        ScheduleVerb::List { trigger, page } => list(trigger, page, client, output).await,
        ScheduleVerb::Next { name, count } => next(&name, count, client, output).await,
    }
}

async fn list(
    trigger: Option<String>,
    page: PageArgs,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    let parameters =
        query(&[("trigger", trigger), ("limit", Some(page.limit.to_string())), ("cursor", page.cursor)]);
    let answer: Value = client.get("schedules", &parameters).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<PlannedSchedule> = typed(&answer)?;
    let rows = list.items.iter().map(row).collect();
    let heads = ["SCHEDULE", "TRIGGER", "NAME", "SAYS", "NEXT", "LAST"];
    let none = "No schedule: [on.cron], [on.interval], [on.once] and [on.daemon] make some.";
    output.table(&heads, rows, none)?;
    match list.next_cursor {
        Some(cursor) => output.line(&format!("More: --cursor {cursor}")),
        None => Ok(()),
    }
}

/// What makes it different from others, of all that its table in the trigger's file says.
pub(super) fn says(spec: &Value) -> String {
    let own = ["expression", "every", "at", "restart", "type", "scheme"];
    let words = own.iter().filter_map(|key| spec.get(*key)?.as_str());
    let zone = spec.get("timezone").and_then(Value::as_str).filter(|zone| *zone != "UTC");
    let lists = ["events", "paths"].iter().filter_map(|key| spec.get(*key)?.as_array()).flatten();
    let said: Vec<_> = words.chain(zone).chain(lists.filter_map(Value::as_str)).collect();
    plain(&said.join("  "))
}

fn row(planned: &PlannedSchedule) -> Vec<String> {
    let schedule = &planned.schedule;
    vec![
        schedule.id.to_string(),
        plain(&planned.trigger),
        plain(&schedule.name),
        says(&schedule.spec),
        next_of(planned),
        schedule.last_run_at.map(time).unwrap_or_default(),
    ]
}

fn next_of(planned: &PlannedSchedule) -> String {
    let next = planned.schedule.next_run_at;
    match &planned.daemon {
        Some(now) => plain(&daemon(now, next)),
        None => next.map(time).unwrap_or_default(),
    }
}

/// What a daemon does: `starts again at .. (restart 3, after exit 1)`.
pub(super) fn daemon(now: &DaemonNow, next: Option<Timestamp>) -> String {
    let id = now.task_id;
    let what = match now.state {
        DaemonState::Starting => format!("task {id} starts it"),
        DaemonState::Running => {
            format!("runs since {} as task {id}", now.started_at.map(time).unwrap_or_default())
        }
        DaemonState::Stopping => format!("its run, task {id}, is being ended"),
        DaemonState::Restarting => format!("starts again at {}", next.map(time).unwrap_or_default()),
        DaemonState::Stopped => format!("has stopped: `hetuflow task retry {id}` starts it again"),
        DaemonState::Held => format!(
            "may still run, nobody knows: when it does not, `hetuflow task retry {id}` starts it again"
        ),
    };
    let restarts = (now.restarts > 0).then(|| format!("restart {}", now.restarts));
    let after = now.outcome.as_ref().map(|outcome| format!("after {}", ended(outcome)));
    let more: Vec<String> = restarts.into_iter().chain(after).collect();
    if more.is_empty() { what } else { format!("{what} ({})", more.join(", ")) }
}

async fn next(name: &str, count: u32, client: &Client, output: Output) -> Result<(), CliError> {
    let ids = match name.parse::<ScheduleId>() {
        Ok(id) => vec![id],
        Err(_) => of_trigger(name, client).await?,
    };
    let mut answers: Vec<Value> = Vec::new();
    for id in ids {
        let count = [("count", count.to_string())];
        answers.push(client.get(&format!("schedules/{id}/next"), &count).await?);
    }
    if output.is_json() {
        return output.json(&answers);
    }
    for answer in &answers {
        show(&typed(answer)?, output)?;
    }
    Ok(())
}

/// In the order of their names: `cron 1`, `cron 2`.
async fn of_trigger(name: &str, client: &Client) -> Result<Vec<ScheduleId>, CliError> {
    let parameters = [("trigger", name.to_owned()), ("limit", "500".to_owned())];
    let mut list: List<PlannedSchedule> = client.get("schedules", &parameters).await?;
    if list.items.is_empty() {
        return Err(CliError::Failed(format!(
            "no schedule of a trigger {name:?} is driven by a clock, or keeps a daemon: `hetuflow schedule list`"
        )));
    }
    list.items.sort_by(|a, b| a.schedule.name.cmp(&b.schedule.name));
    Ok(list.items.into_iter().map(|planned| planned.schedule.id).collect())
}

fn show(next: &Next, output: Output) -> Result<(), CliError> {
    let PlannedSchedule { trigger, schedule, .. } = &next.planned;
    output.line(&format!("{} {}  {}", plain(trigger), plain(&schedule.name), schedule.id))?;
    if schedule.kind == ScheduleKind::Daemon {
        let starts = || schedule.next_run_at.map(|at| format!("starts at {}", time(at))).unwrap_or_default();
        let now = next.planned.daemon.as_ref();
        return output.line(&plain(&now.map_or_else(starts, |now| daemon(now, schedule.next_run_at))));
    }
    let rows = next.items.iter().map(|fire| fire_row(fire, output)).collect();
    output.table(&["FIRES (UTC)", "ON ITS CLOCK", "STARTS", "NOTE"], rows, "It does not fire any more.")
}

fn fire_row(fire: &Fire, output: Output) -> Vec<String> {
    let starts = match fire.starts_at {
        Some(start) if start > fire.at => start.to_string(),
        Some(_) => String::new(),
        None => output.tone("does not run", Tone::Faint),
    };
    let local = format!("{} {}", fire.local, fire.timezone);
    vec![fire.at.to_string(), plain(&local), starts, plain(&fire.notes.join("; "))]
}
