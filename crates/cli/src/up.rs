//! `hetuflow up`: server and agent of one machine in one process, in production.

use std::path::{Path, PathBuf};

use hetuflow_server::{Listeners, NotifyState, tell_systemd};

use crate::{
    args::UpArgs,
    commands::config::{agent_config, server_config},
    error::CliError,
    log,
    machine::{Machine, failed, stop_on_signal},
    output::Output,
};

pub(crate) async fn run(args: UpArgs, _output: Output) -> Result<(), CliError> {
    let server = server_config(&args.config)?;
    let mut agent = agent_config(args.agent_config.or_else(|| beside(&args.config)).as_deref())?;
    log::start(&agent.logging.level, agent.logging.format == hetuflow_agent::LogFormat::Json);
    let stop = stop_on_signal()?;
    let mut listeners = Listeners::bind(&server).await.map_err(|error| failed("cannot listen", &error))?;
    // The server is this very process; no other one stands in for it.
    let own = listeners.own_agents().await.map_err(|error| failed("cannot listen", &error))?;
    agent.agent.server_url = format!("ws://{own}");
    agent.agent.servers.clear();
    let mut machine = Machine::start(server, agent, listeners, |_, _| {}).await?;
    tokio::select! {
        ready = machine.ready() => {
            ready?;
            tracing::info!("ready");
            tell_systemd(NotifyState::Ready);
        }
        () = stop.cancelled() => {}
    }
    let stopping = stop.clone();
    tokio::spawn(async move {
        stopping.cancelled().await;
        tell_systemd(NotifyState::Stopping);
    });
    machine.run(stop).await
}

/// `agent.toml` in the folder of the server's configuration, when it is there.
fn beside(server: &Path) -> Option<PathBuf> {
    let path = server.with_file_name("agent.toml");
    path.exists().then_some(path)
}
