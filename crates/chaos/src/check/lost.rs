//! Ends: every task has ended as its job's plan and the faults explain, and a lost attempt was a fault's doing.

use super::{Case, Kind};
use crate::{
    history::{Effect, FaultKind, GivenUp, Nanos},
    jobs::{Job, OnLost, PLANNED_EXIT, Source, fails_first, run_fails},
    state::{InstanceRow, TaskRow, nanos},
    world::RESUME,
};

/// Clocks of one machine, read by different processes.
const SLACK: Nanos = 100_000_000;

/// How long an agent may take to journal an end, on a machine that is busy.
const WRITTEN_DOWN: Nanos = 3_000_000_000;

pub(super) fn check(case: &mut Case<'_>) {
    let run = case.run;
    run.given_up.iter().for_each(|attempt| stays_lost(case, attempt));
    case.counts.tasks = run.state.tasks.len();
    for task in &run.state.tasks {
        let Some(job) = Job::named(&task.trigger) else {
            case.report(
                Kind::Phantom,
                format!("task {} is of no job of this run: {}", task.id, task.trigger),
            );
            continue;
        };
        for instance in task.instances.iter().filter(|instance| instance.status == "lost") {
            case.counts.lost_attempts += 1;
            lost_by_a_fault(case, task, instance);
        }
        succeeded_too_late(case, task);
        if !task.is_settled() {
            case.report(Kind::Unsettled, format!("{task:?}"));
            continue;
        }
        match task.status.as_str() {
            "succeeded" => succeeded(case, task),
            "lost" => ended_lost(case, job, task),
            "failed" => failed(case, job, task),
            // It was asked to end: see [`super::daemons`].
            "cancelled" if job.source == Source::Daemon => {}
            _ => case.report(Kind::Unexplained, format!("{task:?}")),
        }
    }
}

/// What was declared lost is over, whatever its agent says when it comes back.
fn stays_lost(case: &mut Case<'_>, attempt: &GivenUp) {
    let status = case.tasks.get(attempt.task.as_str()).and_then(|task| task.status_of(&attempt.instance));
    if status != Some("lost") {
        case.report(Kind::Stale, format!("{attempt:?} was lost, and is {status:?} now"));
    }
}

/// Nothing follows a success; an attempt that has a successor was over when that began.
fn succeeded_too_late(case: &mut Case<'_>, task: &TaskRow) {
    let is_stale = |one: &&InstanceRow| one.attempt < task.attempt && one.status == "succeeded";
    for stale in task.instances.iter().filter(is_stale) {
        let what = format!("task {}: {stale:?} succeeded, and has a successor", task.id);
        case.report(Kind::Stale, what);
    }
}

/// Nothing but the death or the absence of the agent that held it makes an attempt lost here.
fn lost_by_a_fault(case: &mut Case<'_>, task: &TaskRow, instance: &InstanceRow) {
    let from = nanos(instance.created_at).saturating_sub(SLACK);
    let to = instance.finished_at.map_or(Nanos::MAX, |at| nanos(at).saturating_add(SLACK));
    let killed = case.run.faults.iter().any(|fault| {
        fault.kind == FaultKind::Kill && fault.target == instance.agent_id && (from..=to).contains(&fault.at)
    });
    if !killed && !stayed_away(case, instance) {
        let what = format!("task {} lost {instance:?}, though its agent was there", task.id);
        return case.report(Kind::Unexplained, what);
    }
    known_by_its_agent(case, task, instance, (from, to));
}

/// It was judged while its agent was away, and not before the time that an agent is given.
pub(super) fn stayed_away(case: &Case<'_>, instance: &InstanceRow) -> bool {
    let Some(lost_at) = instance.finished_at.map(nanos) else { return false };
    let resume = Nanos::try_from(RESUME.as_nanos()).unwrap_or(Nanos::MAX);
    absences(case, &instance.agent_id).any(|(from, to)| {
        (from.saturating_add(resume).saturating_sub(SLACK)..=to.saturating_add(SLACK)).contains(&lost_at)
    })
}

/// From when to when the agent was away.
fn absences<'a>(case: &Case<'a>, agent: &'a str) -> impl Iterator<Item = (Nanos, Nanos)> + use<'a> {
    let faults = &case.run.faults;
    let of = move |kind| faults.iter().filter(move |fault| fault.kind == kind && fault.target == agent);
    of(FaultKind::Absence).map(move |fault| {
        let back = of(FaultKind::Return).map(|back| back.at).find(|at| *at >= fault.at);
        (fault.at, back.unwrap_or(Nanos::MAX))
    })
}

/// An end that the agent had all the time to write down is not lost with it.
fn known_by_its_agent(
    case: &mut Case<'_>,
    task: &TaskRow,
    instance: &InstanceRow,
    (from, to): (Nanos, Nanos),
) {
    let Some(end) = case.ends.get(instance.id.as_str()).map(|end| end.at) else { return };
    let disturbed = case.run.faults.iter().any(|fault| {
        let soon = match fault.kind {
            FaultKind::Kill => from,
            // It may still have been frozen.
            FaultKind::Freeze => end.saturating_sub(2 * WRITTEN_DOWN),
            FaultKind::Partition
            | FaultKind::Restart
            | FaultKind::Absence
            | FaultKind::Return
            | FaultKind::Stall => return false,
        };
        fault.target == instance.agent_id && (soon..=end.saturating_add(WRITTEN_DOWN)).contains(&fault.at)
    });
    let away = absences(case, &instance.agent_id).any(|(from, to)| {
        (from.saturating_sub(WRITTEN_DOWN)..=to.saturating_add(WRITTEN_DOWN)).contains(&end)
    });
    if !disturbed && !away {
        let what = format!("task {}: {instance:?} had ended at {end}, and its agent forgot how", task.id);
        case.report(Kind::Lost, format!("{what} (lost at {to})"));
    }
}

fn succeeded(case: &mut Case<'_>, task: &TaskRow) {
    let starts = case.starts(&task.id);
    let last = starts.iter().find(|start| start.attempt == task.attempt).copied();
    let Some(last) = last else {
        let what = format!("task {} of event {} succeeded without a process", task.id, task.event_id);
        return case.report(Kind::Lost, what);
    };
    if !case.ends.contains_key(last.instance.as_str()) {
        case.report(Kind::Unexplained, format!("task {} succeeded, but {last:?} wrote no end", task.id));
    }
    if planned_to_fail(task, Some(last)) {
        case.report(Kind::Unexplained, format!("{task:?} succeeded, but its attempt was to fail"));
    }
}

fn ended_lost(case: &mut Case<'_>, job: &Job, task: &TaskRow) {
    let goes_on = job.source == Source::Daemon && !may_still_run(job, task);
    case.counts.held += usize::from(!goes_on);
    if task.instances.iter().all(|instance| instance.status != "lost") {
        case.report(Kind::Unexplained, format!("{task:?} is lost, but none of its attempts is"));
    }
    let repeats = job.on_lost == OnLost::Retry && task.attempt <= job.max_retries;
    if repeats {
        case.report(Kind::Lost, format!("{task:?} was given up, though its job says that it is repeated"));
    }
}

/// A daemon of which nobody knows whether it still runs is not started again, unless its job says so.
pub(super) fn may_still_run(job: &Job, task: &TaskRow) -> bool {
    let unknown = task.outcome.as_ref().is_some_and(|outcome| !outcome.gone);
    task.status == "lost" && unknown && job.on_lost == OnLost::Hold
}

/// Only by plan, and only after every retry.
fn failed(case: &mut Case<'_>, job: &Job, task: &TaskRow) {
    let planned =
        task.outcome.as_ref().is_some_and(|end| end.reason == "exit" && end.exit_code == Some(PLANNED_EXIT));
    let last = case.starts(&task.id).iter().find(|start| start.attempt == task.attempt).copied();
    let by_plan = planned && last.is_some() && planned_to_fail(task, last) && task.attempt > job.max_retries;
    if !by_plan {
        case.report(Kind::Unexplained, format!("{task:?}"));
    }
}

fn planned_to_fail(task: &TaskRow, last: Option<&Effect>) -> bool {
    if Job::named(&task.trigger).is_some_and(|job| job.source == Source::Daemon) {
        return run_fails(&task.event_id);
    }
    let number = last.and_then(|start| start.key.parse().ok());
    task.trigger == "retry" && number.is_some_and(|n| task.attempt <= fails_first(n))
}
