//! Runs of daemons, as the lines that they wrote tell of them.

use super::*;
use crate::jobs::{Job, OnLost, Source, run_fails};

const MILLI: Nanos = 1_000_000;

/// A run of a daemon: from when to when it said that it lives, and what became of its task.
struct Lived {
    from: u64,
    to: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As its plan says.
    Planned,
    /// With its agent, which said that nothing of it is left.
    Killed,
    /// The server's word, while the agent was away.
    Unknown,
    /// It was asked to.
    Asked,
}

fn lived(from: u64, to: u64, end: End) -> Lived {
    Lived { from, to, end }
}

/// What `daemon` did, in milliseconds after the beginning; all others live as they should.
fn story(daemon: &str, until: u64, runs: &[Lived]) -> Run {
    let mut run = Run::default();
    run.state.daemons_until = Some(BEGIN + until * MILLI);
    for job in Job::of(Source::Daemon).filter(|job| job.name != daemon) {
        add(&mut run, job.name, 0, &lived(0, until + 100, End::Asked));
    }
    for (n, lived) in runs.iter().enumerate() {
        add(&mut run, daemon, n, lived);
    }
    run
}

fn add(run: &mut Run, daemon: &str, n: usize, lived: &Lived) {
    // The first event from here on whose plan is to end well.
    let event_id = (0..1000).map(|more| format!("{daemon}-{n}-{more}")).find(|id| !run_fails(id));
    let event_id = event_id.expect("there are many");
    let status = match lived.end {
        End::Planned => "succeeded",
        End::Killed | End::Unknown => "lost",
        End::Asked => "cancelled",
    };
    let mut row = task(&format!("{daemon}-{n}"), &event_id, daemon, status);
    let at = |millis: u64| BEGIN + millis * MILLI;
    for (phase, millis) in [(Phase::Start, lived.from), (Phase::Alive, lived.to)] {
        run.effects.push(effect(phase, &row, "", 1, at(millis)));
    }
    if lived.end == End::Planned {
        run.effects.push(effect(Phase::End, &row, "", 1, at(lived.to)));
    }
    if row.status == "lost" {
        let gone = lived.end == End::Killed;
        row.outcome = Some(Outcome { reason: "lost".to_owned(), exit_code: None, message: None, gone });
        let lost_at = if gone { at(lived.to) } else { at(lived.from) + 16 * SECOND };
        row.instances = vec![lost_instance(&row.id, at(lived.from), lost_at)];
        let fault = |kind, at| Fault { at, kind, target: "agent-0".to_owned() };
        run.faults.extend(match lived.end {
            End::Killed => vec![fault(FaultKind::Kill, at(lived.to))],
            End::Planned | End::Unknown | End::Asked => vec![
                fault(FaultKind::Absence, at(lived.from)),
                fault(FaultKind::Return, at(lived.from) + 20 * SECOND),
            ],
        });
    }
    run.state.events.push(event(&event_id, "schedule", &[daemon]));
    run.state.tasks.push(row);
}

fn check(daemon: &str, until: u64, runs: &[Lived], expected: &[Kind]) {
    assert_eq!(found(&story(daemon, until, runs)), expected);
}

/// One that waits for a person when nobody knows whether it still runs, and one that does not.
const HOLDS: &str = "single";
const GOES_ON: &str = "steady";

#[test]
fn the_two_differ_in_what_they_do_when_they_are_lost() {
    let on_lost = |name| Job::named(name).map(|job| job.on_lost);
    assert_eq!((on_lost(HOLDS), on_lost(GOES_ON)), (Some(OnLost::Hold), Some(OnLost::Retry)));
}

#[test]
fn one_run_after_the_other_is_as_it_should_be() {
    let runs = [
        lived(0, 1_000, End::Planned),
        lived(2_000, 3_000, End::Planned),
        lived(5_000, 8_000, End::Killed),
        lived(9_000, 20_100, End::Asked),
    ];
    let verdict = judged(&story(HOLDS, 20_000, &runs));
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.counts.runs, verdict.counts.fires, verdict.counts.held), (5, 0, 0));
}

#[test]
fn two_runs_at_a_time_are_seen_whatever_was_killed() {
    for end in [End::Planned, End::Killed] {
        for daemon in [HOLDS, GOES_ON] {
            let runs = [lived(0, 5_000, end), lived(4_900, 20_100, End::Asked)];
            check(daemon, 20_000, &runs, &[Kind::SideBySide]);
        }
    }
    // Not only with the one before.
    let runs =
        [lived(0, 9_000, End::Killed), lived(2_000, 3_000, End::Planned), lived(5_000, 20_100, End::Asked)];
    let verdict = judged(&story(HOLDS, 20_000, &runs));
    assert_eq!(verdict.violations.len(), 2, "{:?}", verdict.violations);
}

#[test]
fn only_a_daemon_that_says_so_goes_on_beside_a_run_that_is_away() {
    let runs = [lived(0, 19_000, End::Unknown), lived(17_000, 40_100, End::Asked)];
    check(GOES_ON, 40_000, &runs, &[]);
    check(HOLDS, 40_000, &runs, &[Kind::SideBySide]);
    // Nor when the old run had ended by then: nobody knew it.
    let runs = [lived(0, 15_000, End::Unknown), lived(17_000, 40_100, End::Asked)];
    check(HOLDS, 40_000, &runs, &[Kind::SideBySide]);
}

#[test]
fn each_restart_waits_longer() {
    let after = |waits: [u64; 4]| {
        let (mut runs, mut at) = (Vec::new(), 0);
        for wait in waits {
            runs.push(lived(at, at + 500, End::Planned));
            at += 500 + wait;
        }
        runs.push(lived(at, 40_100, End::Asked));
        runs
    };
    check(HOLDS, 40_000, &after([1_000, 2_000, 4_000, 4_000]), &[]);
    check(HOLDS, 40_000, &after([900, 2_000, 4_000, 4_000]), &[Kind::TooSoon]);
    check(HOLDS, 40_000, &after([1_000, 1_900, 4_000, 4_000]), &[Kind::TooSoon]);
    check(HOLDS, 40_000, &after([1_000, 2_000, 4_000, 3_900]), &[Kind::TooSoon]);
    // A run that lasted begins a new row; of one that was killed nobody but the server knows.
    let runs = [
        lived(0, 500, End::Planned),
        lived(1_500, 9_500, End::Planned),
        lived(10_500, 10_600, End::Killed),
        lived(11_600, 40_100, End::Asked),
    ];
    check(HOLDS, 40_000, &runs, &[]);
}

#[test]
fn one_run_lives_in_the_end() {
    check(HOLDS, 20_000, &[lived(0, 20_100, End::Asked)], &[]);
    check(HOLDS, 20_000, &[], &[Kind::Lost]);
    check(HOLDS, 20_000, &[lived(0, 10_000, End::Killed)], &[Kind::Lost]);
    check(HOLDS, 20_000, &[lived(0, 19_900, End::Planned)], &[Kind::Lost]);
}

#[test]
fn a_daemon_waits_for_a_person_only_when_its_agent_was_away() {
    check(HOLDS, 40_000, &[lived(0, 18_000, End::Unknown)], &[]);
    check(GOES_ON, 40_000, &[lived(0, 18_000, End::Unknown)], &[Kind::Lost]);
    let mut run = story(HOLDS, 40_000, &[lived(0, 1_000, End::Killed)]);
    let outcome = run.state.tasks.last_mut().and_then(|task| task.outcome.as_mut());
    outcome.expect("it was lost").gone = false;
    assert_eq!(found(&run), [Kind::Unexplained]);
}

#[test]
fn nothing_follows_a_run_that_was_asked_to_end() {
    let runs = [lived(0, 1_000, End::Asked), lived(3_000, 20_100, End::Asked)];
    check(HOLDS, 20_000, &runs, &[Kind::Unexplained]);
}
