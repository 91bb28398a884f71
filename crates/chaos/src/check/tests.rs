mod daemons;

use super::*;
use crate::{
    history::{Answer, FaultKind, Nanos},
    jobs::{fails_first, has_twin, hook_of},
    state::{Decision, InstanceRow, Outcome, Verdict as EventVerdict},
};

const SECOND: Nanos = 1_000_000_000;
const BEGIN: Nanos = 1_700_000_000 * SECOND;

/// A delivery with one task and a plan to succeed at once.
fn plain() -> u64 {
    (1..1000).find(|n| hook_of(*n) == "plain" && !has_twin(*n)).expect("there are many")
}

/// A delivery of job `retry` that fails once by plan.
fn retried() -> u64 {
    (1..1000).find(|n| hook_of(*n) == "retry" && fails_first(*n) == 1).expect("there are many")
}

fn time(at: Nanos) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(at.into()).expect("a time")
}

fn event(id: &str, kind: &str, triggers: &[&str]) -> EventRow {
    let decision =
        |trigger: &&str| Decision { trigger: (*trigger).to_owned(), outcome: "matched".to_owned() };
    EventRow {
        id: id.to_owned(),
        kind: kind.to_owned(),
        source: format!("/{kind}"),
        event_type: String::new(),
        headers: Vec::new(),
        subject: None,
        time: time(BEGIN),
        received_at: time(BEGIN),
        verdict: EventVerdict { verdict: "accepted".to_owned() },
        decisions: triggers.iter().map(decision).collect(),
    }
}

fn task(id: &str, event: &str, trigger: &str, status: &str) -> TaskRow {
    TaskRow {
        id: id.to_owned(),
        trigger: trigger.to_owned(),
        event_id: event.to_owned(),
        status: status.to_owned(),
        attempt: 1,
        outcome: None,
        instances: Vec::new(),
    }
}

fn effect(phase: Phase, task: &TaskRow, key: &str, attempt: u32, at: Nanos) -> Effect {
    Effect {
        phase,
        trigger: task.trigger.clone(),
        key: key.to_owned(),
        event: task.event_id.clone(),
        task: task.id.clone(),
        instance: format!("{}-{attempt}", task.id),
        attempt,
        pid: attempt,
        at,
    }
}

fn ok(n: u64, event_id: &str) -> Operation {
    let answer = Answer::Ok { event_id: event_id.to_owned(), task_ids: Vec::new(), duplicate: false };
    Operation { n, hook: hook_of(n).to_owned(), at: BEGIN, answer }
}

fn lost_instance(task: &str, from: Nanos, to: Nanos) -> InstanceRow {
    InstanceRow {
        id: format!("{task}-1"),
        agent_id: "agent-0".to_owned(),
        attempt: 1,
        status: "lost".to_owned(),
        created_at: time(from),
        finished_at: Some(time(to)),
    }
}

/// One delivery that went well.
fn well(n: u64) -> Run {
    let task = task("t", "e", hook_of(n), "succeeded");
    let key = n.to_string();
    Run {
        operations: vec![ok(n, "e")],
        effects: vec![
            effect(Phase::Start, &task, &key, 1, BEGIN),
            effect(Phase::End, &task, &key, 1, BEGIN + SECOND),
        ],
        state: State {
            events: vec![event("e", "webhook", &[hook_of(n)])],
            tasks: vec![task],
            ..State::default()
        },
        ..Run::default()
    }
}

/// The end of a task, as it is told.
fn end(task: &TaskRow, event_type: &str) -> EventRow {
    EventRow {
        event_type: event_type.to_owned(),
        headers: vec![("hetuflow-task".to_owned(), task.id.clone())],
        ..event(&format!("end of {}", task.id), "internal", &[])
    }
}

/// The verdict about a run whose ends were all told, unless the run itself says which were.
fn judged(run: &Run) -> Verdict {
    let says = run.state.events.iter().any(|event| event.kind == "internal");
    let kind = |task: &TaskRow| match task.status.as_str() {
        "succeeded" => "job.succeeded",
        "cancelled" => "job.cancelled",
        _ => "job.failed",
    };
    let settled = run.state.tasks.iter().filter(|task| !says && task.is_settled());
    let ends: Vec<EventRow> = settled.map(|task| end(task, kind(task))).collect();
    let events = run.state.events.iter().cloned().chain(ends).collect();
    judge(&Run { state: State { events, ..run.state.clone() }, ..run.clone() })
}

/// The kinds of violations, each once.
fn found(run: &Run) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = judged(run).violations.into_iter().map(|violation| violation.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn what_went_well_is_nothing_to_report() {
    let verdict = judged(&well(plain()));
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.counts.deliveries, verdict.counts.tasks, verdict.counts.effects), (1, 1, 1));
}

#[test]
fn an_acknowledged_event_that_is_gone_is_lost() {
    let run = Run { state: State::default(), effects: Vec::new(), ..well(plain()) };
    assert_eq!(found(&run), [Kind::Lost]);
}

#[test]
fn an_event_without_its_task_is_lost() {
    let mut run = well(plain());
    run.state.tasks.clear();
    run.effects.clear();
    assert_eq!(found(&run), [Kind::Lost, Kind::Ledger]);
}

#[test]
fn a_success_without_a_process_is_lost() {
    let run = Run { effects: Vec::new(), ..well(plain()) };
    assert_eq!(found(&run), [Kind::Lost]);
}

#[test]
fn two_events_of_one_delivery_are_doubled() {
    let n = plain();
    let mut run = well(n);
    run.operations.push(ok(n, "f"));
    let second = task("u", "f", "plain", "succeeded");
    for phase in [Phase::Start, Phase::End] {
        run.effects.push(effect(phase, &second, &n.to_string(), 1, BEGIN));
    }
    run.state.events.push(event("f", "webhook", &["plain"]));
    run.state.tasks.push(second);
    assert_eq!(found(&run), [Kind::Doubled]);
}

#[test]
fn an_event_more_than_deliveries_without_answer_is_doubled() {
    let n = plain();
    let mut run = well(n);
    run.state.events.push(event("f", "webhook", &[]));
    assert_eq!(found(&run), [Kind::Doubled]);
    // Unless a sender does not know what became of its delivery.
    let unknown = Answer::Info("reset".to_owned());
    run.operations.push(Operation { n: n + 1, hook: "plain".to_owned(), at: BEGIN, answer: unknown });
    assert_eq!(found(&run), []);
}

#[test]
fn a_job_that_runs_once_and_ran_twice_is_doubled() {
    let n = plain();
    let mut run = well(n);
    run.state.tasks[0].attempt = 2;
    let again = effect(Phase::Start, &run.state.tasks[0], &n.to_string(), 2, BEGIN + 2 * SECOND);
    run.effects.push(again.clone());
    run.effects.push(Effect { phase: Phase::End, at: again.at + 1, ..again });
    assert_eq!(found(&run), [Kind::Doubled]);
}

#[test]
fn one_attempt_with_two_processes_is_a_double_spawn() {
    let n = retried();
    let mut run = retries_well(n);
    let again = Effect { pid: 99, ..run.effects[0].clone() };
    run.effects.insert(1, again);
    // They also ran at the same time.
    assert_eq!(found(&run), [Kind::DupSpawn, Kind::SideBySide]);
}

/// A delivery that fails once and then succeeds.
fn retries_well(n: u64) -> Run {
    let mut run = well(n);
    let task = &mut run.state.tasks[0];
    task.attempt = 2;
    let key = n.to_string();
    for (phase, at) in [(Phase::Start, 2), (Phase::End, 3)] {
        run.effects.push(effect(phase, task, &key, 2, BEGIN + at * SECOND));
    }
    run
}

#[test]
fn a_planned_failure_is_followed_by_the_next_attempt() {
    assert_eq!(found(&retries_well(retried())), []);
    // Success at the first attempt is not what the process said.
    assert_eq!(found(&well(retried())), [Kind::Unexplained]);
}

#[test]
fn attempts_side_by_side_are_seen() {
    let mut run = retries_well(retried());
    run.effects[1].at = BEGIN + 2 * SECOND + 1;
    assert_eq!(found(&run), [Kind::SideBySide]);
}

#[test]
fn effects_without_a_cause_are_phantoms() {
    let mut run = well(plain());
    let unknown = task("x", "y", "plain", "succeeded");
    run.effects.push(effect(Phase::Start, &unknown, "99999999", 1, BEGIN));
    assert_eq!(found(&run), [Kind::Phantom]);
}

#[test]
fn what_has_not_ended_is_unsettled() {
    let mut run = well(plain());
    run.state.tasks[0].status = "running".to_owned();
    assert_eq!(found(&run), [Kind::Unsettled]);
}

#[test]
fn orphans_are_passed_on() {
    let mut run = well(plain());
    run.state.orphans.push("process 1".to_owned());
    assert_eq!(found(&run), [Kind::Orphan]);
}

#[test]
fn a_failure_that_nobody_planned_is_unexplained() {
    let mut run = well(plain());
    run.state.tasks[0].status = "failed".to_owned();
    run.state.tasks[0].outcome =
        Some(Outcome { reason: "spawn".to_owned(), exit_code: None, message: None, gone: false });
    assert_eq!(found(&run), [Kind::Unexplained]);
}

#[test]
fn a_lost_attempt_needs_a_killed_agent() {
    let mut run = well(plain());
    run.state.tasks[0].status = "lost".to_owned();
    run.state.tasks[0].instances.push(lost_instance("t", BEGIN, BEGIN + 5 * SECOND));
    run.effects.pop();
    assert_eq!(found(&run), [Kind::Unexplained]);
    let fault = |at, target: &str| Fault { at, kind: FaultKind::Kill, target: target.to_owned() };
    run.faults = vec![fault(BEGIN + SECOND, "agent-1"), fault(BEGIN + 9 * SECOND, "agent-0")];
    assert_eq!(found(&run), [Kind::Unexplained]);
    run.faults.push(fault(BEGIN + 3 * SECOND, "agent-0"));
    let verdict = judged(&run);
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.counts.lost_attempts, verdict.counts.held), (1, 1));
}

#[test]
fn an_end_that_the_agent_knew_is_not_lost_with_it() {
    let mut run = well(plain());
    run.state.tasks[0].status = "lost".to_owned();
    run.state.tasks[0].instances.push(lost_instance("t", BEGIN, BEGIN + 9 * SECOND));
    let fault = |at| Fault { at: BEGIN + at * SECOND, kind: FaultKind::Kill, target: "agent-0".to_owned() };
    // Its process wrote its end after one second.
    run.faults = vec![fault(6)];
    assert_eq!(found(&run), [Kind::Lost]);
    run.faults = vec![fault(3)];
    assert_eq!(found(&run), []);
}

#[test]
fn a_lost_attempt_of_a_job_that_repeats_is_not_the_end() {
    let mut run = well(retried());
    run.state.tasks[0].status = "lost".to_owned();
    run.state.tasks[0].instances.push(lost_instance("t", BEGIN, BEGIN + 5 * SECOND));
    run.faults = vec![Fault { at: BEGIN + SECOND, kind: FaultKind::Kill, target: "agent-0".to_owned() }];
    assert_eq!(found(&run), [Kind::Lost]);
}

#[test]
fn the_sums_are_compared() {
    let mut run = well(plain());
    run.state.events[0].decisions.clear();
    assert_eq!(found(&run), [Kind::Ledger]);
    run = well(plain());
    run.state.events.push(event("e", "webhook", &["plain"]));
    assert_eq!(found(&run), [Kind::Ledger]);
}

#[test]
fn each_file_is_one_event() {
    let file = |id: &str| EventRow { subject: Some("/in/1".to_owned()), ..event(id, "file", &[]) };
    let drop = Drop { path: "/in/1".to_owned(), at: BEGIN };
    let check = |events: &[&str], drops: Vec<Drop>, expected: &[Kind]| {
        let events = events.iter().map(|id| file(id)).collect();
        let run = Run { drops, state: State { events, ..State::default() }, ..Run::default() };
        assert_eq!(found(&run), expected);
    };
    check(&["e"], vec![drop.clone()], &[]);
    check(&[], vec![drop.clone()], &[Kind::Lost]);
    check(&["e", "f"], vec![drop], &[Kind::Doubled]);
    check(&["e"], vec![], &[Kind::Phantom]);
}

#[test]
fn a_success_has_no_successor() {
    let n = retried();
    let mut run = retries_well(n);
    let first = InstanceRow { status: "failed".to_owned(), ..lost_instance("t", BEGIN, BEGIN + SECOND) };
    run.state.tasks[0].instances = vec![first.clone()];
    assert_eq!(found(&run), []);
    // Its report came when the second attempt had taken its place, and counted.
    run.state.tasks[0].instances = vec![InstanceRow { status: "succeeded".to_owned(), ..first }];
    assert_eq!(found(&run), [Kind::Stale]);
}

#[test]
fn what_was_given_up_stays_lost() {
    let mut run = lost_while_away(16, None);
    let attempt = GivenUp { at: BEGIN, task: "t".to_owned(), instance: "t-1".to_owned() };
    run.given_up = vec![attempt.clone()];
    assert_eq!(found(&run), []);
    // The agent came back and said how it ended, and was believed.
    assert_eq!(found(&Run { given_up: vec![attempt], ..well(plain()) }), [Kind::Stale]);
}

/// Lost at this second after the agent left; it came back 20 s after it left.
fn lost_while_away(lost_after: u64, ended: Option<Nanos>) -> Run {
    let left = BEGIN + 10 * SECOND;
    let fault = |kind, at| Fault { at, kind, target: "agent-0".to_owned() };
    let mut run = well(plain());
    run.state.tasks[0].status = "lost".to_owned();
    run.state.tasks[0].instances = vec![lost_instance("t", BEGIN, left + lost_after * SECOND)];
    run.effects.truncate(1);
    run.effects.extend(ended.map(|at| effect(Phase::End, &run.state.tasks[0], &plain().to_string(), 1, at)));
    run.faults = vec![fault(FaultKind::Absence, left), fault(FaultKind::Return, left + 20 * SECOND)];
    run
}

#[test]
fn an_agent_that_stays_away_loses_what_it_has_and_not_too_soon() {
    assert_eq!(found(&lost_while_away(16, None)), []);
    assert_eq!(found(&lost_while_away(14, None)), [Kind::Unexplained]);
    assert_eq!(found(&lost_while_away(25, None)), [Kind::Unexplained]);
    // It ended while the agent was away, and long before.
    assert_eq!(found(&lost_while_away(16, Some(BEGIN + 12 * SECOND))), []);
    assert_eq!(found(&lost_while_away(16, Some(BEGIN + SECOND))), [Kind::Lost]);
}

/// What a schedule of `trigger` did at these milliseconds after the beginning, each so many milliseconds late.
fn fires(trigger: &str, times: &[(u64, u64, &str)], faults: &[u64]) -> Run {
    let at = |millis: u64| BEGIN + millis * 1_000_000;
    let fire = |(n, (millis, late, outcome)): (usize, &(u64, u64, &str))| EventRow {
        time: time(at(*millis)),
        received_at: time(at(millis + late)),
        decisions: vec![Decision { trigger: trigger.to_owned(), outcome: (*outcome).to_owned() }],
        ..event(&format!("e{n}"), "schedule", &[])
    };
    let events: Vec<EventRow> = times.iter().enumerate().map(fire).collect();
    let matched = events.iter().filter(|event| event.matched().next().is_some());
    let tasks = matched.map(|event| task(&format!("t-{}", event.id), &event.id, trigger, "succeeded"));
    let tasks: Vec<TaskRow> = tasks.collect();
    let effects = tasks.iter().flat_map(|task| {
        [effect(Phase::Start, task, "", 1, BEGIN), effect(Phase::End, task, "", 1, BEGIN + 1)]
    });
    let fault =
        |millis: &u64| Fault { at: at(*millis), kind: FaultKind::Kill, target: "server-0".to_owned() };
    Run {
        effects: effects.collect(),
        faults: faults.iter().map(fault).collect(),
        state: State { events, tasks, ..State::default() },
        ..Run::default()
    }
}

const RAN: &str = "matched";
const SKIPPED: &str = "skipped";

#[test]
fn each_time_fires_once() {
    let check = |times: &[(u64, u64, &str)], expected: &[Kind]| {
        assert_eq!(found(&fires("tick", times, &[])), expected);
    };
    check(&[(0, 1, RAN), (1000, 1, RAN), (2000, 1, RAN)], &[]);
    check(&[(0, 1, RAN), (1000, 1, RAN), (1000, 9, RAN)], &[Kind::Doubled]);
    check(&[(0, 1, RAN), (1500, 1, RAN), (2000, 1, RAN)], &[Kind::Phantom]);
    check(&[(0, 1, RAN), (3000, 1, RAN)], &[Kind::Missed]);
}

#[test]
fn a_time_is_skipped_only_after_an_absence() {
    let absent = [(0, 1, RAN), (1000, 7001, SKIPPED), (8000, 1, RAN)];
    let verdict = judged(&fires("tick", &absent, &[500]));
    assert_eq!((verdict.violations, verdict.counts.passed_over, verdict.counts.fires), (vec![], 7, 2));
    // No fault; soon enough to fire; a schedule that makes up for everything.
    assert_eq!(found(&fires("tick", &absent, &[])), [Kind::Missed]);
    let soon = [(0, 1, RAN), (1000, 2001, SKIPPED), (3000, 1, RAN)];
    assert_eq!(found(&fires("tick", &soon, &[500])), [Kind::Missed]);
    assert_eq!(found(&fires("cron", &absent, &[500])), [Kind::Missed]);
}

#[test]
fn an_end_is_told_once() {
    let with = |ends: &[&str]| {
        let mut run = well(plain());
        let task = run.state.tasks[0].clone();
        let told = ends.iter().zip(1..).map(|(kind, n)| EventRow { id: format!("{n}"), ..end(&task, kind) });
        run.state.events.extend(told);
        run
    };
    assert_eq!(found(&with(&["job.succeeded"])), []);
    assert_eq!(found(&with(&["job.succeeded", "job.succeeded"])), [Kind::Doubled]);
    assert_eq!(found(&with(&["job.failed"])), [Kind::Lost]);
    let mut run = with(&["job.succeeded"]);
    run.state.events[1].headers[0].1 = "another".to_owned();
    assert_eq!(found(&run), [Kind::Lost, Kind::Phantom]);
}
