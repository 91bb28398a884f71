//! Server and agent in one process: what `dev` and `up` share.
//!
//! The agent stops first, while the server still takes the results of what it drains; then the server
//! commits what was submitted and closes its store.

use hetuflow_agent::Ended;
use hetuflow_core::Clock;
use hetuflow_server::{Listeners, Server, triggers::TriggerSet};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

pub(crate) struct Machine {
    pub server: Server,
    agent: JoinHandle<Ended>,
    stop_agent: CancellationToken,
    stop_server: CancellationToken,
}

impl Machine {
    /// Starts the server, then the agent that it waits for. `agent` must dial the server's own listener;
    /// `complete` may add to it what only the loaded triggers tell, before its first hello.
    pub(crate) async fn start(
        mut server: hetuflow_server::Config,
        mut agent: hetuflow_agent::Config,
        listeners: Listeners,
        complete: impl FnOnce(&TriggerSet, &mut hetuflow_agent::Config),
    ) -> Result<Self, CliError> {
        let id =
            hetuflow_agent::agent_id(&agent).await.map_err(|error| failed("the agent cannot run", &error))?;
        server.embedded.expect_agent = Some(id);
        let (stop_agent, stop_server) = (CancellationToken::new(), CancellationToken::new());
        let server = hetuflow_server::start(server, listeners, stop_server.clone())
            .await
            .map_err(|error| failed("the server cannot run", &error))?;
        complete(&server.state.triggers.current(), &mut agent);
        let agent = apart(hetuflow_agent::run(agent, Clock::system(), stop_agent.clone(), Box::new(|| {})))?;
        Ok(Self { server, agent, stop_agent, stop_server })
    }

    /// Waits until everything works, or something ended instead.
    pub(crate) async fn ready(&mut self) -> Result<(), CliError> {
        tokio::select! {
            health = self.server.wait_ready() => match health.status {
                hetuflow_server::Status::Unavailable => {
                    Err(CliError::Failed(format!("the server does not get ready: {}", health.reasons.join("; "))))
                }
                hetuflow_server::Status::Ok | hetuflow_server::Status::Degraded => Ok(()),
            },
            ended = &mut self.agent => Err(agent_ended(ended)),
        }
    }

    /// Runs until `stop`, or until a part ends before its time, and takes everything apart in order.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), CliError> {
        let mut server = tokio::spawn(self.server.join());
        let early = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut self.agent => Some(agent_ended(ended)),
            ended = &mut server => Some(server_ended(ended)),
        };
        self.stop_agent.cancel();
        if !self.agent.is_finished() {
            // How it ended is in its log; the stop goes on whatever it was.
            let _ = (&mut self.agent).await;
        }
        self.stop_server.cancel();
        match early {
            Some(error) => {
                if !server.is_finished() {
                    let _ = server.await;
                }
                Err(error)
            }
            None => match server.await {
                Ok(Ok(())) => Ok(()),
                ended => Err(server_ended(ended)),
            },
        }
    }
}

/// The agent has a thread of its own, as it has where it is a process of its own: what it hands from one of its tasks to
/// the next must not wake another thread each time.
fn apart(agent: impl Future<Output = Ended> + Send + 'static) -> Result<JoinHandle<Ended>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CliError::Io("cannot start the agent's runtime".to_owned(), error))?;
    Ok(tokio::task::spawn_blocking(move || {
        let ended = runtime.block_on(agent);
        // A thread that waits for a file system which does not answer is not waited for.
        runtime.shutdown_background();
        ended
    }))
}

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process at once.
pub(crate) fn stop_on_signal() -> Result<CancellationToken, CliError> {
    let cannot = |error| CliError::Io("cannot wait for signals".to_owned(), error);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if second {
                std::process::exit(130);
            }
            stopped.cancel();
        }
    });
    Ok(stop)
}

/// An error with everything that caused it, for a person.
pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> CliError {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    CliError::Failed(text)
}

fn agent_ended(ended: Result<Ended, tokio::task::JoinError>) -> CliError {
    match ended {
        Ok(Ok(())) => CliError::Failed("the agent ended by itself".to_owned()),
        Ok(Err(error)) => failed("the agent cannot run", &error),
        Err(error) => failed("the agent broke", &error),
    }
}

fn server_ended(ended: Result<Result<(), hetuflow_server::ServerError>, tokio::task::JoinError>) -> CliError {
    match ended {
        Ok(Ok(())) => CliError::Failed("the server ended by itself".to_owned()),
        Ok(Err(error)) => failed("the server cannot run", &error),
        Err(error) => failed("the server broke", &error),
    }
}
