//! Sends signed webhooks: as many as the server takes, or so many in a second. Cheap on purpose (one request's bytes
//! are made once, nothing is parsed that need not be), because it shares the machine with what it measures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::http::{self, Template};
use crate::{monotonic, payload, spread::Waits};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT` of the hook listener
    #[arg(long)]
    address: String,
    #[arg(long, default_value = "/hooks/bench")]
    path: String,
    #[arg(long)]
    count: u64,
    #[arg(long, default_value_t = 128)]
    connections: u64,
    /// Requests that are under way on each connection
    #[arg(long, default_value_t = 2)]
    depth: u64,
    /// The answer of a receiver that takes a delivery
    #[arg(long, default_value_t = 202)]
    status: u16,
    /// A push as GitHub sends it, of 7 KiB, instead of 1 KiB; not at a rate
    #[arg(long)]
    push: bool,
    /// So many in a second, one at a time, instead of as many as possible
    #[arg(long)]
    rate: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// From the sending to the answer, at a rate.
    pub(crate) answer: Option<Waits>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let sent = match args.rate {
        None => flood(Arc::new(args)).await?,
        Some(rate) => pace(&args, rate).await?,
    };
    super::say(&sent)?;
    super::until_dismissed().await
}

async fn flood(args: Arc<Args>) -> anyhow::Result<Sent> {
    let next = Arc::new(AtomicU64::new(0));
    // So that no two floods of one server send the same deliveries.
    let body = if args.push { payload::push() } else { payload::body(0) };
    let template = Arc::new(Template::new(&args.address, &args.path, monotonic::now(), &body)?);
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(connect(&args.address).await?);
    }
    let began = monotonic::now();
    let mut running = JoinSet::new();
    for socket in connections {
        running.spawn(keep_busy(socket, Arc::clone(&args), Arc::clone(&template), Arc::clone(&next)));
    }
    let (mut accepted, mut refused) = (0, 0);
    while let Some(done) = running.join_next().await {
        let (yes, no) = done.context("a connection broke")??;
        accepted += yes;
        refused += no;
    }
    Ok(Sent { accepted, refused, began, ended: monotonic::now(), answer: None })
}

/// Keeps `depth` requests under way on one connection until the count is used up.
async fn keep_busy(
    mut socket: TcpStream,
    args: Arc<Args>,
    template: Arc<Template>,
    next: Arc<AtomicU64>,
) -> anyhow::Result<(u64, u64)> {
    let (mut out, mut answers) = (Vec::new(), Vec::with_capacity(16 * 1024));
    let (mut under_way, mut accepted, mut refused) = (0, 0, 0);
    loop {
        out.clear();
        while under_way < args.depth {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= args.count {
                break;
            }
            template.write(number, &mut out);
            under_way += 1;
        }
        socket.write_all(&out).await?;
        if under_way == 0 {
            return Ok((accepted, refused));
        }
        ensure!(socket.read_buf(&mut answers).await? > 0, "the server hung up");
        let mut seen = 0;
        while let Some((status, length)) = http::answer(&answers[seen..])? {
            seen += length;
            under_way -= 1;
            *if status == args.status { &mut accepted } else { &mut refused } += 1;
        }
        answers.drain(..seen);
    }
}

/// One at a time, each saying when it was sent.
async fn pace(args: &Args, rate: u32) -> anyhow::Result<Sent> {
    let mut socket = connect(&args.address).await?;
    let mut tick = interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut accepted, mut refused) = (0, 0);
    let (mut waits, began) = (Vec::new(), monotonic::now());
    for number in 0..args.count {
        tick.tick().await;
        let sent = monotonic::now();
        let body = payload::body(sent);
        let delivery = format!("{began}-{number}");
        let request = http::request(&args.address, &args.path, &delivery, &body, &payload::signature(&body));
        socket.write_all(&request).await?;
        *if one_answer(&mut socket).await? == args.status { &mut accepted } else { &mut refused } += 1;
        waits.push(monotonic::now().saturating_sub(sent));
    }
    Ok(Sent { accepted, refused, began, ended: monotonic::now(), answer: Waits::of(&waits) })
}

async fn one_answer(socket: &mut TcpStream) -> anyhow::Result<u16> {
    let mut answer = Vec::with_capacity(1024);
    loop {
        ensure!(socket.read_buf(&mut answer).await? > 0, "the server hung up");
        if let Some((status, _)) = http::answer(&answer)? {
            return Ok(status);
        }
    }
}

async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
