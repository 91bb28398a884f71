//! `hetuflow-agent`: reads the configuration, starts logging, runs the agent until a signal.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use hetuflow_agent::{Config, LogFormat, Logging};
use hetuflow_core::Clock;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs jobs and watches directories on this host for a hetuflow server.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration; without it the defaults of config/agent.toml and the environment
    /// (HETUFLOW_AGENT__SECTION__KEY, SERVER_URL) hold.
    #[expect(clippy::doc_markdown, reason = "the help text of a terminal")]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// One thread: the agent's tasks hand each attempt on several times, and each time another thread would have to be woken.
fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let ended = runtime.block_on(run(Args::parse()));
    // A thread that waits for a file system which does not answer is not waited for.
    runtime.shutdown_background();
    ended
}

async fn run(args: Args) -> anyhow::Result<()> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = Config::load(args.config.as_deref(), &environment)?;
    start_logging(&config.logging)?;
    let shutdown = CancellationToken::new();
    stop_on_signals(&shutdown)?;
    hetuflow_agent::run(config, Clock::system(), shutdown, Box::new(|| tell_systemd(NotifyState::Ready)))
        .await
        .context("the agent cannot run")
}

/// Where `Type=notify` waits for it; elsewhere nobody listens.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}

fn start_logging(logging: &Logging) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&logging.level)
        .with_context(|| format!("[logging] level = {:?} is no log level", logging.level))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match logging.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn stop_on_signals(shutdown: &CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell_systemd(NotifyState::Stopping);
        shutdown.cancel();
    });
    Ok(())
}
