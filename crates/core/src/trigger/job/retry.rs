//! `retry`, `max_retries` and `on_lost` of `[job]`: read apart, judged together.

use std::time::Duration;

use crate::{
    job::JobSpec,
    retry::{Backoff, OnLost, Retry, RetryReason},
    trigger::{reader::Table, source::Sources},
};

const SECOND: Duration = Duration::from_secs(1);

const REASONS: [(&str, RetryReason); 5] = [
    ("exit", RetryReason::Exit),
    ("signal", RetryReason::Signal),
    ("timeout", RetryReason::Timeout),
    ("spawn", RetryReason::Spawn),
    ("lost", RetryReason::Lost),
];

/// Ends that nothing follows, and why.
const NEVER: [(&str, &str); 2] = [
    ("cancelled", "somebody asked for that end; `hetuflow task retry` runs the task again"),
    ("render", "the same event fills the same template the same way"),
];

pub(super) fn read_on_lost(job: &mut Table<'_>) -> Option<OnLost> {
    job.choice("on_lost", &[("retry", OnLost::Retry), ("fail", OnLost::Fail), ("hold", OnLost::Hold)])
}

pub(super) fn read_retry(job: &mut Table<'_>) -> Retry {
    let defaults = Retry::default();
    let Some(mut table) = job.table("retry") else { return defaults };
    let retry = Retry {
        backoff: table
            .choice("backoff", &[("fixed", Backoff::Fixed), ("exponential", Backoff::Exponential)])
            .unwrap_or_default(),
        max_interval: table.duration("max_interval", SECOND).unwrap_or(defaults.max_interval),
        jitter: table.flag("jitter").unwrap_or_default(),
        on: read_reasons(&mut table),
        exit_codes: table.integers("exit_codes", 1..=255).unwrap_or_default(),
        not_exit_codes: table.integers("not_exit_codes", 1..=255).unwrap_or_default(),
    };
    check_codes(&table, &retry);
    table.finish();
    retry
}

fn read_reasons(table: &mut Table<'_>) -> Option<Vec<RetryReason>> {
    let mut reasons = Vec::new();
    for text in table.texts("on")? {
        match NEVER.iter().find(|(name, _)| *name == text.value) {
            Some((name, why)) => table.problem(text.span, format!("{name} is never retried"), *why),
            None => reasons.extend(table.pick(&text, "on", &REASONS)),
        }
    }
    if table.is_empty_list("on") {
        table.problem_at("on", "on is empty: nothing would be retried", "leave retry out to retry nothing");
    }
    Some(reasons)
}

fn check_codes(table: &Table<'_>, retry: &Retry) {
    if !retry.exit_codes.is_empty() && !retry.not_exit_codes.is_empty() {
        let help = "exit_codes lists what is retried, not_exit_codes what is not";
        table.problem_at("not_exit_codes", "not_exit_codes and exit_codes exclude each other", help);
    }
    let exits = retry.on.as_ref().is_none_or(|on| on.contains(&RetryReason::Exit));
    for (key, codes) in [("exit_codes", &retry.exit_codes), ("not_exit_codes", &retry.not_exit_codes)] {
        if !exits && !codes.is_empty() {
            table.problem_at(key, format!("{key} means nothing here"), "\"exit\" is not in on");
        }
    }
}

/// What makes no sense together is refused, because one of the two would be passed over silently.
pub(super) fn check(job: &Table<'_>, spec: &JobSpec, sources: &Sources) {
    if sources.only_daemons() {
        return check_daemon(job);
    }
    let lists_lost = spec.retry.on.as_ref().is_some_and(|on| on.contains(&RetryReason::Lost));
    if lists_lost && spec.on_lost.is_some_and(|on_lost| on_lost != OnLost::Retry) {
        let help = "take \"lost\" out of retry.on, or write on_lost = \"retry\"";
        job.problem_at("on_lost", "on_lost contradicts retry.on, which lists \"lost\"", help);
    }
    if spec.max_retries == 0 && spec.retry.on.is_some() {
        let help = "max_retries is 0; write how often: max_retries = 3";
        job.problem_at("retry", "retry.on means nothing without max_retries", help);
    }
    if spec.max_retries == 0 && spec.on_lost == Some(OnLost::Retry) && sources.daemons.is_empty() {
        let help = "max_retries is 0; write how often: max_retries = 1";
        job.problem_at("on_lost", "on_lost = \"retry\" means nothing without max_retries", help);
    }
}

/// A run of a daemon has one attempt: what follows it is a restart.
fn check_daemon(job: &Table<'_>) {
    for key in ["max_retries", "retry_interval", "retry"] {
        if job.has(key) {
            let help = "[on.daemon] says what follows: restart, backoff, max_backoff, reset_after";
            job.problem_at(key, format!("{key} means nothing for a daemon"), help);
        }
    }
}
