//! Ends of tasks: each is told once, because a trigger of the run asks for ends of jobs.

use std::collections::HashMap;

use super::{Case, Kind};
use crate::state::EventRow;

pub(super) fn check(case: &mut Case<'_>) {
    let mut told: HashMap<&str, Vec<&EventRow>> = HashMap::new();
    for event in case.events_of("internal") {
        match event.ended_task() {
            Some(task) => told.entry(task).or_default().push(event),
            None => case.report(Kind::Phantom, format!("event {} is no end of a task", event.id)),
        }
    }
    for task in &case.run.state.tasks {
        let ends = told.remove(task.id.as_str()).unwrap_or_default();
        let expected = match task.status.as_str() {
            "succeeded" => "job.succeeded",
            "cancelled" => "job.cancelled",
            _ => "job.failed",
        };
        let named: Vec<&str> = ends.iter().map(|end| end.event_type.as_str()).collect();
        // One that has not ended is reported as such.
        if named == [expected] || !task.is_settled() {
            case.counts.ends += named.len();
            continue;
        }
        let kind = if named.len() > 1 { Kind::Doubled } else { Kind::Lost };
        let what = format!("task {} ended as {} and was told as {named:?}", task.id, task.status);
        case.report(kind, what);
    }
    for task in told.into_keys() {
        case.report(Kind::Phantom, format!("the end of task {task} was told, and there is no such task"));
    }
}
