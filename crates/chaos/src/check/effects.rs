//! Processes: each has its cause, each attempt has at most one, and never two of one task at a time.

use std::collections::HashMap;

use super::{Case, Kind};
use crate::{history::Effect, jobs::Job};

pub(super) fn check(case: &mut Case<'_>) {
    case.counts.effects = case.starts.values().map(Vec::len).sum();
    let started: Vec<(String, Vec<Effect>)> =
        case.starts.iter().map(|(task, starts)| ((*task).to_owned(), owned(starts))).collect();
    for (task, mut starts) in started {
        starts.sort_by_key(|start| start.at);
        caused(case, &task, &starts);
        twice(case, &task, &starts);
        side_by_side(case, &starts);
    }
    once_for_each_event(case);
    for orphan in case.run.state.orphans.clone() {
        case.report(Kind::Orphan, orphan);
    }
}

fn owned(starts: &[&Effect]) -> Vec<Effect> {
    starts.iter().map(|start| (*start).clone()).collect()
}

fn caused(case: &mut Case<'_>, task: &str, starts: &[Effect]) {
    let Some(row) = case.tasks.get(task).copied() else {
        let all = format!("task {task} is not there, but ran: {starts:?}");
        return case.report(Kind::Phantom, all);
    };
    for start in starts {
        if start.event != row.event_id || start.trigger != row.trigger || start.attempt > row.attempt {
            case.report(Kind::Phantom, format!("{start:?} is not what was planned: {row:?}"));
        }
    }
}

fn twice(case: &mut Case<'_>, task: &str, starts: &[Effect]) {
    let mut attempts: HashMap<u32, Vec<u32>> = HashMap::new();
    for start in starts {
        attempts.entry(start.attempt).or_default().push(start.pid);
    }
    for (attempt, pids) in attempts.into_iter().filter(|(_, pids)| pids.len() > 1) {
        let what = format!("attempt {attempt} of task {task} started as the processes {pids:?}");
        case.report(Kind::DupSpawn, what);
    }
}

/// A later attempt starts only when the one before has ended or is dead; one that wrote its end afterwards was not.
fn side_by_side(case: &mut Case<'_>, starts: &[Effect]) {
    for pair in starts.windows(2) {
        let end = case.ends.get(pair[0].instance.as_str());
        if let Some(end) = end.filter(|end| end.at > pair[1].at) {
            let what = format!("{:?} had not ended ({}) when {:?} started", pair[0], end.at, pair[1]);
            case.report(Kind::SideBySide, what);
        }
    }
}

/// Over all tasks: a job that must not be repeated has one process for one event.
fn once_for_each_event(case: &mut Case<'_>) {
    let mut counts: HashMap<(String, String), u32> = HashMap::new();
    for start in case.starts.values().flatten() {
        if Job::named(&start.trigger).is_none_or(Job::runs_once) {
            *counts.entry((start.event.clone(), start.trigger.clone())).or_default() += 1;
        }
    }
    for ((event, trigger), count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        case.report(Kind::Doubled, format!("{trigger} ran {count} times for event {event}"));
    }
}
