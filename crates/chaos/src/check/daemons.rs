//! Daemons: one run at a time, whatever breaks; after each end the next one, and not at once; one that lives when all has
//! settled. How long a run lived is known by the lines that it wrote, because most runs are killed before their end.

use std::collections::HashMap;

use super::{
    Case, Kind,
    lost::{may_still_run, stayed_away},
};
use crate::{
    history::{Effect, Nanos, Phase},
    jobs::{BACKOFF, Job, MAX_BACKOFF, OnLost, Source},
    state::TaskRow,
};

/// A run that has not said for so long that it lives does not: many of its lines, on a machine that is busy.
const SILENT: Nanos = 3_000_000_000;

/// A run that ended by itself within this time did not last, though its agent may have been frozen when it ended.
const SHORT: Nanos = 2_000_000_000;

/// Clocks of one machine, read by different processes.
const SLACK: Nanos = 50_000_000;

/// One process of a daemon.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    start: &'a Effect,
    /// When it last said that it lives.
    last: Nanos,
    /// It said that it ends.
    ended: bool,
}

pub(super) fn check(case: &mut Case<'_>) {
    let run = case.run;
    for daemon in Job::of(Source::Daemon) {
        let runs = runs(&run.effects, daemon.name);
        case.counts.runs += runs.len();
        one_at_a_time(case, daemon, &runs);
        not_at_once(case, &runs);
        after_each_task(case, daemon);
        lives(case, daemon, &runs);
    }
}

/// Whether each daemon has one run at this moment, or none where it is held.
pub(crate) fn each_lives(effects: &[Effect], held: &[&str], at: Nanos) -> bool {
    Job::of(Source::Daemon).all(|daemon| {
        let expected = usize::from(!held.contains(&daemon.name));
        living(&runs(effects, daemon.name), at).len() == expected
    })
}

/// In the order of their starts.
fn runs<'a>(effects: &'a [Effect], daemon: &str) -> Vec<Run<'a>> {
    let mut runs: HashMap<(&str, u32), Run<'_>> = HashMap::new();
    for line in effects.iter().filter(|line| line.trigger == daemon) {
        let new = Run { start: line, last: line.at, ended: false };
        let run = runs.entry((&line.instance, line.pid)).or_insert(new);
        run.last = run.last.max(line.at);
        run.ended |= line.phase == Phase::End;
    }
    let mut runs: Vec<Run<'_>> = runs.into_values().collect();
    runs.sort_by_key(|run| run.start.at);
    runs
}

fn living<'a>(runs: &[Run<'a>], at: Nanos) -> Vec<Run<'a>> {
    let lives = |run: &Run<'_>| {
        let over = run.ended && run.last <= at;
        run.start.at <= at && run.last.saturating_add(SILENT) > at && !over
    };
    runs.iter().copied().filter(lives).collect()
}

/// What lived on while the next one began was still there, whoever was killed; unless its job says not to wait for one
/// whose agent stays away.
fn one_at_a_time(case: &mut Case<'_>, daemon: &Job, runs: &[Run<'_>]) {
    for (n, run) in runs.iter().enumerate() {
        for before in runs[..n].iter().filter(|before| before.last > run.start.at) {
            if daemon.on_lost != OnLost::Retry || !was_away(case, before) {
                let what =
                    format!("{:?} lived until {} when {:?} started", before.start, before.last, run.start);
                case.report(Kind::SideBySide, what);
            }
        }
    }
}

fn was_away(case: &Case<'_>, run: &Run<'_>) -> bool {
    let task = case.tasks.get(run.start.task.as_str());
    let mut instances = task.into_iter().flat_map(|task| &task.instances);
    instances.any(|one| one.id == run.start.instance && one.status == "lost" && stayed_away(case, one))
}

/// The wait doubles with each short run in a row. Runs that never came to a process only make it longer, and of one that
/// was killed nobody but the server knows how long it took it to have lasted.
fn not_at_once(case: &mut Case<'_>, runs: &[Run<'_>]) {
    let mut row = 0;
    for pair in runs.windows(2) {
        let (before, next) = (pair[0], pair[1].start);
        let short = before.ended && before.last.saturating_sub(before.start.at) < SHORT;
        row = if short { row + 1 } else { 1 };
        let wait = BACKOFF.saturating_mul(1 << (row - 1).min(16)).min(MAX_BACKOFF);
        let wait = Nanos::try_from(wait.as_nanos()).unwrap_or(Nanos::MAX);
        // One that began before its end is another matter.
        let waited = next.at.checked_sub(before.last);
        if waited.is_some_and(|waited| waited.saturating_add(SLACK) < wait) {
            let what = format!(
                "{next:?} did not wait for {wait} ns after {:?}, which ended at {}",
                before.start, before.last
            );
            case.report(Kind::TooSoon, what);
        }
    }
}

/// Nothing follows a run that was asked to end, or of which nobody knows whether it still runs.
fn after_each_task(case: &mut Case<'_>, daemon: &Job) {
    let tasks = tasks(case, daemon);
    for pair in tasks.windows(2) {
        if pair[0].status == "cancelled" {
            case.report(Kind::Unexplained, format!("{:?} was asked to end before everything was", pair[0]));
        }
        if may_still_run(daemon, pair[0]) {
            let what = format!("{:?} may still run, and was followed by {:?}", pair[0], pair[1]);
            case.report(Kind::SideBySide, what);
        }
    }
}

/// In the order in which they were planned.
fn tasks<'a>(case: &Case<'a>, daemon: &Job) -> Vec<&'a TaskRow> {
    let mut tasks: Vec<&TaskRow> =
        case.run.state.tasks.iter().filter(|task| task.trigger == daemon.name).collect();
    tasks.sort_by_key(|task| task.id.as_str());
    tasks
}

/// When all else had settled there was one; none where a person has to decide, which only an absence explains.
fn lives(case: &mut Case<'_>, daemon: &Job, runs: &[Run<'_>]) {
    let Some(until) = case.run.state.daemons_until else { return };
    let held = tasks(case, daemon).last().copied().filter(|last| may_still_run(daemon, last));
    if let Some(held) = held.filter(|held| !held.instances.iter().any(|one| stayed_away(case, one))) {
        case.report(Kind::Unexplained, format!("{held:?} holds {}, though its agent was there", daemon.name));
    }
    let living: Vec<&Effect> = living(runs, until).iter().map(|run| run.start).collect();
    match (living.len(), held) {
        (1, None) | (0, Some(_)) => {}
        (0, None) => case.report(Kind::Lost, format!("no run of {} lived at {until}", daemon.name)),
        _ => {
            let what = format!("{} lived {} times: {living:?}", daemon.name, living.len());
            case.report(Kind::SideBySide, what);
        }
    }
}
