//! The rules: what follows from each phase.

use std::time::Duration;

use hetuflow_core::{
    id::{JobId, ScheduleId, TaskId},
    job::JobSpec,
    retry::{OnLost, RetryPolicy},
    schedule::{DaemonRule, Restart},
    status::Status,
    task::{EndReason, Outcome},
};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Facts, JobVersion, Phase, Step,
    facts::{Kept, Run, Wanted},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn job() -> JobId {
    JobId::from_uuid(Uuid::from_u128(1))
}

fn schedule() -> ScheduleId {
    ScheduleId::from_uuid(Uuid::from_u128(2))
}

fn wanted(cmd: &str, revision: i64) -> Wanted {
    Wanted {
        schedule_id: schedule(),
        next_run_at: None,
        job: JobVersion { id: job(), revision },
        definition: JobSpec::running(cmd),
        rule: DaemonRule { backoff: Duration::from_secs(5), ..DaemonRule::default() },
    }
}

/// Its process began at second 10; it ended at 20 if it has an outcome.
fn run(status: Status, outcome: Option<Outcome>) -> Run {
    Run {
        status,
        policy: RetryPolicy::of_daemon(&JobSpec::running("consume")),
        started_at: Some(at(10)),
        finished_at: outcome.as_ref().map(|_| at(20)),
        outcome,
        cancel_requested: false,
    }
}

fn running() -> Run {
    run(Status::Running, None)
}

fn ended(outcome: Outcome) -> Run {
    run(outcome.status(), Some(outcome))
}

fn lost() -> Run {
    ended(Outcome::because(EndReason::Lost, ""))
}

/// The third restart of `consume`, revision 1.
fn kept(phase: Phase, run: Option<Run>) -> Kept {
    Kept {
        phase,
        task_id: TaskId::at(at(0)),
        restarts: 3,
        definition: Some(JobSpec::running("consume")),
        job: JobVersion { id: job(), revision: 1 },
        run,
    }
}

fn arm(at: Timestamp, restarts: u32) -> Step {
    Step::Arm { schedule_id: schedule(), at, restarts }
}

/// At second 21.
fn check(phase: Phase, run: Option<Run>, wanted: Option<Wanted>, expected: Step) {
    let facts = Facts { kept: Some(kept(phase, run)), wanted };
    assert_eq!(facts.step(at(21)), expected, "{facts:?}");
}

#[test]
fn a_run_that_goes_on_is_left_alone_while_its_job_says_the_same() {
    let same = || Some(wanted("consume", 1));
    check(Phase::Running, Some(running()), same(), Step::Leave);
    check(Phase::Running, Some(run(Status::Pending, None)), same(), Step::Leave);
    // Another revision with the same words (a description) is only noted.
    let noted = Step::Run(JobVersion { id: job(), revision: 2 });
    check(Phase::Running, Some(running()), Some(wanted("consume", 2)), noted);
    check(Phase::Running, Some(running()), Some(wanted("devour", 2)), Step::End);
    check(Phase::Running, Some(running()), None, Step::End);
    check(Phase::Stopping, Some(running()), same(), Step::End);
    let asked = Run { cancel_requested: true, ..running() };
    check(Phase::Stopping, Some(asked), same(), Step::Leave);
    // Somebody runs the last one again.
    let again = Step::Run(JobVersion { id: job(), revision: 1 });
    check(Phase::Stopped, Some(running()), same(), again);
    check(Phase::Held, Some(running()), same(), again);
    check(Phase::Held, Some(running()), None, Step::End);
}

#[test]
fn an_end_is_followed_by_the_rule() {
    let check = |outcome: Outcome, expected: Step| {
        check(Phase::Running, Some(ended(outcome)), Some(wanted("consume", 1)), expected);
    };
    // The fourth wait of 5 s, from the end at second 20.
    check(Outcome::exit(0), arm(at(60), 4));
    check(Outcome::exit(1), arm(at(60), 4));
    check(Outcome::because(EndReason::Cancelled, ""), Step::Settle(Phase::Stopped));
    check(Outcome::because(EndReason::Lost, ""), Step::Settle(Phase::Held));
    check(Outcome { gone: true, ..Outcome::because(EndReason::Lost, "") }, arm(at(60), 4));
}

#[test]
fn a_clock_elsewhere_neither_hurries_nor_delays_a_restart() {
    let check = |finished_at: i64, expected: i64| {
        let run = Run { finished_at: Some(at(finished_at)), ..ended(Outcome::exit(1)) };
        let rule = DaemonRule { reset_after: Duration::from_secs(1), ..wanted("consume", 1).rule };
        let facts = Facts {
            kept: Some(kept(Phase::Running, Some(run))),
            wanted: Some(Wanted { rule, ..wanted("consume", 1) }),
        };
        assert_eq!(facts.step(at(100)), arm(at(expected), 1), "ended at {finished_at}");
    };
    check(20, 100);
    check(98, 103);
    check(5000, 105);
}

#[test]
fn what_was_asked_to_end_is_replaced_at_once_or_forgotten() {
    let cancelled = || Some(ended(Outcome::because(EndReason::Cancelled, "")));
    check(Phase::Stopping, cancelled(), Some(wanted("devour", 2)), arm(at(21), 0));
    // An edit and its undoing.
    check(Phase::Stopping, cancelled(), Some(wanted("consume", 1)), arm(at(21), 0));
    check(Phase::Stopping, cancelled(), None, Step::Forget);
    // It ended by itself before anybody asked.
    check(Phase::Running, Some(ended(Outcome::exit(1))), Some(wanted("devour", 2)), arm(at(21), 0));
    check(Phase::Running, Some(ended(Outcome::exit(1))), None, Step::Forget);
}

#[test]
fn nothing_replaces_what_may_still_run() {
    for phase in [Phase::Running, Phase::Stopping] {
        check(phase, Some(lost()), Some(wanted("devour", 2)), Step::Settle(Phase::Held));
        check(phase, Some(lost()), None, Step::Settle(Phase::Held));
    }
    check(Phase::Held, Some(lost()), Some(wanted("devour", 2)), Step::Leave);
    check(Phase::Held, Some(lost()), None, Step::Leave);
    check(Phase::Held, None, Some(wanted("devour", 2)), Step::Settle(Phase::Stopped));
    check(Phase::Held, None, None, Step::Forget);
    let bears_it = Run { policy: RetryPolicy { on_lost: OnLost::Retry, ..lost().policy }, ..lost() };
    check(Phase::Running, Some(bears_it), Some(wanted("consume", 1)), arm(at(60), 4));
}

#[test]
fn what_has_stopped_starts_by_an_edit_only() {
    let done = || Some(ended(Outcome::exit(0)));
    let on_failure = DaemonRule { restart: Restart::OnFailure, ..DaemonRule::default() };
    let wanted_on_failure = Wanted { rule: on_failure, ..wanted("consume", 1) };
    check(Phase::Running, done(), Some(wanted_on_failure.clone()), Step::Settle(Phase::Stopped));
    check(Phase::Stopped, done(), Some(wanted_on_failure), Step::Leave);
    check(Phase::Stopped, done(), Some(wanted("devour", 2)), arm(at(21), 0));
    check(Phase::Stopped, done(), None, Step::Forget);
    check(Phase::Stopped, None, Some(wanted("consume", 1)), Step::Leave);
}

#[test]
fn a_restart_that_waits_is_hurried_by_an_edit() {
    let later = || Some(at(21) + SignedDuration::from_mins(1));
    let waits = |wanted: Wanted| Some(Wanted { next_run_at: later(), ..wanted });
    let failed = || Some(ended(Outcome::exit(1)));
    check(Phase::Armed, failed(), waits(wanted("consume", 1)), Step::Leave);
    check(Phase::Armed, failed(), waits(wanted("devour", 2)), arm(at(21), 0));
    check(Phase::Armed, failed(), Some(wanted("consume", 1)), arm(at(21), 0));
    check(Phase::Armed, failed(), None, Step::Forget);
}

#[test]
fn a_task_that_retention_dropped_has_ended() {
    check(Phase::Running, None, Some(wanted("consume", 1)), arm(at(61), 4));
}
