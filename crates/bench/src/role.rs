//! What this binary does inside a benchmark when it is not the benchmark itself: a process each, so that its
//! processor time is its own. Each speaks JSON lines on standard output, and ends when its standard input does.

pub(crate) mod agents;
pub(crate) mod feed;
mod http;
pub(crate) mod load;
pub(crate) mod verify;

use std::io::Write;

use clap::Subcommand;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

#[derive(Subcommand)]
pub(crate) enum Role {
    /// Simulated agents: answer every assignment at once
    Agents(agents::Args),
    /// Sends webhooks over keep-alive connections
    Load(load::Args),
    /// A server that verifies deliveries and does nothing else
    Verify,
    /// A server in this process, and events that enter it without HTTP
    Feed(feed::Args),
}

pub(crate) async fn play(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Agents(args) => agents::run(args).await,
        Role::Load(args) => load::run(args).await,
        Role::Verify => verify::run().await,
        Role::Feed(args) => feed::run(args).await,
    }
}

/// One line to the benchmark that started this.
fn say(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, value)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

fn orders() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

/// Until the benchmark has gone, or has no more use for this.
async fn until_dismissed() -> anyhow::Result<()> {
    let mut orders = orders();
    while orders.next_line().await?.is_some() {}
    Ok(())
}
