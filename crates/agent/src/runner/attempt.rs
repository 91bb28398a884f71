//! One attempt from the journal to its end: `Waiting`, then `Running`, then `Ended`.

use std::{sync::Arc, time::Duration};

use hetuflow_core::{
    duration,
    job::Command,
    outputs::Outputs,
    protocol::{Assignment, RunResult},
    task::{EndReason, Lease, Outcome},
};
use hetuflow_failpoint::failpoint;
use tokio::time::{sleep, timeout};

use super::{Runner, Start, Stopped};
use crate::{
    attempts::{Phase, Stop},
    output::Capture,
    process::{Ended, Running, SpawnError},
    workplace::Workplace,
};

/// A start that takes less does not hang: what a busy host takes for it is no part of the job's own time.
const HANGS: Duration = Duration::from_secs(5);

/// Why hetuflow ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Timeout(Duration),
    Stop(Stop),
}

pub(super) async fn run(runner: Runner, start: Start, mut stopped: Stopped) {
    failpoint!("fork.before");
    let (assignment, place) = (Arc::clone(&start.assignment), start.place.clone());
    let lease = assignment.lease;
    let asked = *stopped.borrow();
    let begun = match asked {
        Some(stop) => {
            start.drop_it(&runner, None).await;
            Err(stop_outcome(stop))
        }
        None => begin(&runner, start, &mut stopped).await,
    };
    let result = match begun {
        Ok(running) => watch_over(&runner, &assignment, running, &place, &mut stopped).await,
        Err(outcome) => runner.result(lease, outcome),
    };
    runner.end(result, &stopped).await;
}

/// The process, or why there will be none.
async fn begin(runner: &Runner, mut start: Start, stopped: &mut Stopped) -> Result<Running, Outcome> {
    start.go();
    let limit = time_limit(&start.assignment.command).map(|limit| limit.max(HANGS));
    let cause = tokio::select! {
        running = start.running() => return running.map_err(|error| not_started(&error)),
        cause = cause(limit, stopped) => cause,
    };
    let hanging = Arc::clone(&runner.hanging).try_acquire_owned();
    if hanging.is_err() || !start.give_up() {
        drop(hanging);
        return start.running().await.map_err(|error| not_started(&error));
    }
    start.drop_it(runner, hanging.ok()).await;
    Err(match cause {
        Cause::Timeout(limit) => {
            let limit = duration::format(limit);
            let message = format!("not started within {limit}: does a file system not answer?");
            Outcome::because(EndReason::Timeout, message)
        }
        Cause::Stop(stop) => stop_outcome(stop),
    })
}

fn not_started(error: &SpawnError) -> Outcome {
    // What is superseded is no failure, and nothing to try again.
    let superseded = matches!(error, SpawnError::Superseded(_));
    let reason = if superseded { EndReason::Cancelled } else { EndReason::Spawn };
    Outcome::because(reason, error.to_string())
}

async fn watch_over(
    runner: &Runner,
    assignment: &Assignment,
    mut running: Running,
    place: &Workplace,
    stopped: &mut Stopped,
) -> RunResult {
    let lease = assignment.lease;
    failpoint!("fork.after");
    let started_at = runner.clock.now();
    // Not durable at once: after a crash in between, its process is found by its cgroup or its marker.
    runner.journal.started(lease.instance_id, running.tree.leader, started_at).await;
    failpoint!("fork.after_journal");
    runner.attempts.set_phase(lease.instance_id, Phase::Running { started_at });
    let mut capture = capture(runner, lease, &assignment.command, &mut running);
    let end = end(&mut running, assignment, runner.executor.grace, stopped);
    let (ended, cause) = match &mut capture {
        Some(capture) => capture.beside(end).await,
        None => end.await,
    };
    let output_dropped = match capture {
        Some(capture) => capture.close().await,
        None => 0,
    };
    // A few bytes that were written just now: to hand this to another thread costs more.
    let outputs = place.outputs();
    let outcome = with(outputs, outcome(ended, cause));
    RunResult { started_at: Some(started_at), output_dropped, ..runner.result(lease, outcome) }
}

/// Waits until no process is left, and takes the exit status.
async fn end(
    running: &mut Running,
    assignment: &Assignment,
    grace: Duration,
    stopped: &mut Stopped,
) -> (std::io::Result<Ended>, Option<Cause>) {
    let cause = wait(running, time_limit(&assignment.command), grace, stopped).await;
    if let Err(survivors) = running.tree.kill().await {
        let instance_id = assignment.lease.instance_id;
        tracing::error!(instance.id = %instance_id, %survivors, "an attempt left processes behind");
    }
    failpoint!("reap.before");
    (running.reap().await, cause)
}

/// Waits for the end of the process, and brings it about when the time is up or somebody asks.
async fn wait(
    running: &Running,
    limit: Option<Duration>,
    grace: Duration,
    stopped: &mut Stopped,
) -> Option<Cause> {
    let cause = tokio::select! {
        () = running.ended() => return None,
        cause = cause(limit, stopped) => cause,
    };
    running.terminate();
    let _ = timeout(grace, running.tree.gone()).await;
    Some(cause)
}

async fn cause(limit: Option<Duration>, stopped: &mut Stopped) -> Cause {
    tokio::select! {
        () = sleep(limit.unwrap_or_default()), if limit.is_some() => Cause::Timeout(limit.unwrap_or_default()),
        stop = asked(stopped) => Cause::Stop(stop),
    }
}

async fn asked(stopped: &mut Stopped) -> Stop {
    match stopped.wait_for(Option::is_some).await.map(|stop| *stop) {
        Ok(Some(stop)) => stop,
        // The table is gone, and with it everybody who could ask.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// `None` when its job wants nothing captured.
fn capture(runner: &Runner, lease: Lease, job: &Command, running: &mut Running) -> Option<Capture> {
    let pipes = [running.stdout.take(), running.stderr.take()];
    if pipes.iter().all(Option::is_none) {
        return None;
    }
    let cap = output_limit(job).min(runner.executor.max_output_size);
    let attempts = runner.attempts.clone();
    let spooled = move |pieces| attempts.set_pieces(lease.instance_id, pieces);
    Some(Capture::new(pipes, runner.spools.create(lease.instance_id, cap), spooled))
}

fn time_limit(job: &Command) -> Option<Duration> {
    let limits = job.resource_limits.as_ref().and_then(|limits| limits.max_execution_time_secs);
    job.timeout.into_iter().chain(limits.map(Duration::from_secs)).min()
}

fn output_limit(job: &Command) -> u64 {
    let limits = job.resource_limits.as_ref().and_then(|limits| limits.max_output_size_bytes);
    limits.map_or(job.max_output_size, |limit| limit.min(job.max_output_size))
}

fn outcome(ended: std::io::Result<Ended>, cause: Option<Cause>) -> Outcome {
    let (exit_code, signal) = match ended {
        Ok(Ended::Exit(code)) => (Some(code), None),
        Ok(Ended::Signal(signal)) => (None, Some(signal)),
        Err(error) => {
            return Outcome::because(EndReason::Lost, format!("its exit status cannot be read: {error}"));
        }
    };
    let why = match cause {
        None if signal.is_some() => Outcome::because(EndReason::Signal, signal_message(signal)),
        None => Outcome { message: None, ..Outcome::because(EndReason::Exit, "") },
        Some(Cause::Timeout(limit)) => {
            let message = format!("killed after its timeout of {}", duration::format(limit));
            Outcome::because(EndReason::Timeout, message)
        }
        Some(Cause::Stop(stop)) => stop_outcome(stop),
    };
    Outcome { exit_code, signal, ..why }
}

/// What cannot be read as outputs makes no failure: the process has done what it did, and to do it again mends nothing.
fn with(outputs: Result<Outputs, String>, outcome: Outcome) -> Outcome {
    match outputs {
        Ok(outputs) => Outcome { outputs, ..outcome },
        Err(reason) => {
            let said = outcome.message.map(|message| format!("{message}; ")).unwrap_or_default();
            Outcome {
                message: Some(format!("{said}what it wrote to HETUFLOW_OUTPUT was not taken: {reason}")),
                ..outcome
            }
        }
    }
}

fn signal_message(signal: Option<i32>) -> String {
    format!("ended by signal {}, which hetuflow did not send", signal.unwrap_or_default())
}

fn stop_outcome(stop: Stop) -> Outcome {
    match stop {
        Stop::Cancelled => Outcome::because(EndReason::Cancelled, "ended because its task was cancelled"),
        Stop::Fenced => Outcome::because(EndReason::Lost, "ended because another attempt took its place"),
        Stop::Shutdown => {
            Outcome::because(EndReason::Lost, "the agent was stopped while it ran; its process was killed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let check = |ended, cause, reason: EndReason, exit_code, signal| {
            let outcome = outcome(Ok(ended), cause);
            assert_eq!((outcome.reason, outcome.exit_code, outcome.signal), (reason, exit_code, signal));
        };
        check(Ended::Exit(3), None, EndReason::Exit, Some(3), None);
        check(Ended::Signal(11), None, EndReason::Signal, None, Some(11));
        let timeout = Some(Cause::Timeout(Duration::from_mins(1)));
        check(Ended::Signal(15), timeout, EndReason::Timeout, None, Some(15));
        check(Ended::Exit(0), Some(Cause::Stop(Stop::Cancelled)), EndReason::Cancelled, Some(0), None);
        check(Ended::Signal(9), Some(Cause::Stop(Stop::Shutdown)), EndReason::Lost, None, Some(9));
    }

    #[test]
    fn outputs_that_cannot_be_read_are_said() {
        let message =
            |outcome: Outcome| with(Err("it is torn".to_owned()), outcome).message.unwrap_or_default();
        let exit = message(Outcome::exit(0));
        assert_eq!(exit, "what it wrote to HETUFLOW_OUTPUT was not taken: it is torn");
        let killed = message(Outcome::because(EndReason::Timeout, "killed"));
        assert_eq!(killed, "killed; what it wrote to HETUFLOW_OUTPUT was not taken: it is torn");
    }
}
