//! The binary `hetuflow-server`: reads the configuration, binds, runs until it is told to stop.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use hetuflow_server::{Config, Listeners, NotifyState, Status, tell_systemd};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The hetuflow server: takes events in, decides, hands tasks to agents, records how they ended.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration; what it leaves out has its default. Each key is also an environment variable:
    /// `HETUFLOW_SERVER__DATABASE__URL`.
    #[arg(long, env = "HETUFLOW_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    hetuflow_server::runtime().context("cannot start the runtime")?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = Config::load(args.config.as_deref(), &environment)?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone()).context("signals cannot be waited for")?;
    let server = hetuflow_server::start(config, listeners, shutdown.clone()).await?;
    if server.wait_ready().await.status != Status::Unavailable {
        tell_systemd(NotifyState::Ready);
    }
    server.join().await?;
    Ok(())
}

/// The first signal drains; a second one ends the process as the system does.
fn stop_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell_systemd(NotifyState::Stopping);
        shutdown.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}
