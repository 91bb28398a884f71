//! A whole server in this process, whose events come from the process itself: what the engine does without HTTP,
//! signatures and matching, as a program that adds jobs to a queue by SQL has none of these either.
//!
//! Orders on standard input: `feed COUNT` (as many as the server takes), `pace COUNT RATE` (so many in a second).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use hetuflow_server::{AppState, Config, Listeners};
use hetuflow_store::Ingested;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::load::Sent;
use crate::{life::Life, monotonic, payload, spread::Waits};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    database: String,
    /// Events that wait for their commit at once
    #[arg(long, default_value_t = 1000)]
    waiting: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) agents: String,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let environment = [
        ("DATABASE_URL", args.database.as_str()),
        ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", ""),
        ("HETUFLOW_SERVER__SERVER__HTTP_PORT", "127.0.0.1:0"),
        ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", "127.0.0.1:0"),
        ("HETUFLOW_SERVER__SERVER__HOOK_PORT", "127.0.0.1:0"),
    ];
    let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Config::load(None, &environment)?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = CancellationToken::new();
    let server = hetuflow_server::start(config, listeners, shutdown.clone()).await?;
    super::say(&Listening { agents: server.addresses().agents.to_string() })?;
    let mut orders = super::orders();
    while let Some(order) = orders.next_line().await? {
        let words: Vec<&str> = order.split_whitespace().collect();
        let sent = match words.as_slice() {
            ["feed", count] => feed(&server.state, count.parse()?, args.waiting).await?,
            ["pace", count, rate] => pace(&server.state, count.parse()?, rate.parse()?).await?,
            _ => return Err(anyhow!("no such order: {order}")),
        };
        super::say(&sent)?;
    }
    shutdown.cancel();
    Ok(server.join().await?)
}

async fn feed(state: &AppState, count: u64, waiting: u32) -> anyhow::Result<Sent> {
    let (next, life) = (Arc::new(AtomicU64::new(0)), Arc::new(Life::new(state.clock.clone())));
    let body = Bytes::from(payload::body(0));
    let mut running = JoinSet::new();
    let began = monotonic::now();
    for _ in 0..waiting {
        let (state, next, life, body) = (state.clone(), Arc::clone(&next), Arc::clone(&life), body.clone());
        running.spawn(async move {
            let mut accepted = 0;
            while next.fetch_add(1, Ordering::Relaxed) < count {
                accepted += submit(&state, &life, body.clone()).await?;
            }
            anyhow::Ok(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(done) = running.join_next().await {
        accepted += done.context("a feeder broke")??;
    }
    let ended = monotonic::now();
    Ok(Sent { accepted, refused: count - accepted, began, ended, answer: None })
}

async fn pace(state: &AppState, count: u64, rate: u32) -> anyhow::Result<Sent> {
    let life = Life::new(state.clock.clone());
    let mut tick = interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut waits, began) = (Vec::new(), monotonic::now());
    let mut accepted = 0;
    for _ in 0..count {
        tick.tick().await;
        let sent = monotonic::now();
        accepted += submit(state, &life, payload::body(sent).into()).await?;
        waits.push(monotonic::now().saturating_sub(sent));
    }
    let ended = monotonic::now();
    Ok(Sent { accepted, refused: count - accepted, began, ended, answer: Waits::of(&waits) })
}

/// 1 when it was stored.
async fn submit(state: &AppState, life: &Life, body: Bytes) -> anyhow::Result<u64> {
    let ingested = state.ingester.submit(life.ingest(body)).await.map_err(|error| anyhow!("{error}"))?;
    Ok(u64::from(ingested == Ingested::Stored))
}
