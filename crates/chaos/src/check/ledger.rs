//! Sums: every decision to run has its task, every task its event, and states add up to what was accepted.

use super::{Case, Kind};

pub(super) fn check(case: &mut Case<'_>) {
    let run = case.run;
    for event in &run.state.events {
        let mut matched: Vec<&str> = event.matched().collect();
        let tasks = case.tasks_of.get(event.id.as_str()).map_or(&[][..], Vec::as_slice);
        let mut planned: Vec<&str> = tasks.iter().map(|task| task.trigger.as_str()).collect();
        matched.sort_unstable();
        planned.sort_unstable();
        if matched != planned {
            let what = format!("event {} matched {matched:?} and has tasks of {planned:?}", event.id);
            case.report(Kind::Ledger, what);
        }
    }
    for task in &run.state.tasks {
        if !case.events.contains_key(task.event_id.as_str()) {
            case.report(
                Kind::Ledger,
                format!("the event of task {} is not there: {}", task.id, task.event_id),
            );
        }
    }
    if case.tasks.len() != run.state.tasks.len() || case.events.len() != run.state.events.len() {
        case.report(Kind::Ledger, "a list of the API has the same row twice");
    }
}
