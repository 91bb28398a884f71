//! `bench engine`: what a whole task life costs. A life is an event of 1 KiB with its dedupe key, its task, the lease,
//! the instance, the agent's reports and the result in the history; nothing runs. Rounds are interleaved, so that
//! whatever else the machine does meets every contender.

mod hetuflow;
mod peers;

use std::path::PathBuf;

use peers::Peer;

use crate::{
    database::Cluster,
    machine::Machine,
    report::{Figure, Form, Report},
};

const RATE: Figure = Figure("lives/s");
const DRAIN: Figure = Figure("drain/s");
const START_P50: Figure = Figure("start p50 ms");
const START_P99: Figure = Figure("start p99 ms");
const DATABASE: Figure = Figure("PostgreSQL µs/life");
const SERVER: Figure = Figure("server µs/life");
const WORKERS: Figure = Figure("agents µs/life");
const LOAD: Figure = Figure("load µs/life");
const LOG: Figure = Figure("log B/life");

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// One short round, ourselves alone
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Lives in one round
    #[arg(long, default_value_t = 20_000)]
    tasks: u64,
    /// A round is cut after this many seconds and counted as far as it came
    #[arg(long, default_value_t = 60)]
    within: u64,
    /// Simulated agents
    #[arg(long, default_value_t = 8)]
    agents: u32,
    /// Assignments that each takes at once
    #[arg(long, default_value_t = 256)]
    slots: u32,
    /// Keep-alive connections that send webhooks
    #[arg(long, default_value_t = 128)]
    connections: u32,
    /// Events per second while latency is measured, and how many
    #[arg(long, default_value_t = 200)]
    rate: u32,
    #[arg(long, default_value_t = 1000)]
    paced: u64,
    /// Only contenders whose name contains this
    #[arg(long)]
    only: Option<String>,
    #[arg(long)]
    json: bool,
}

/// What the rounds share.
struct Ring {
    args: Args,
    cluster: Cluster,
    /// On the disk that is measured.
    folder: PathBuf,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        args.rounds = 1;
        args.only.get_or_insert_with(|| "hetuflow".to_owned());
    }
    let folder = tempfile::Builder::new().prefix("hetuflow-bench-").tempdir()?;
    let mut report = Report::new("Whole task lives, nothing runs", Machine::look(folder.path())?);
    let mut cluster = Cluster::find().await?;
    report.note(format!("PostgreSQL: {}", cluster.settings().await?));
    explain(&mut report, &args);
    let (form, rounds) = (if args.json { Form::Json } else { Form::Table }, args.rounds);
    let mut ring = Ring { args, cluster, folder: folder.path().to_owned() };
    let others: Vec<Peer> = peers::ALL.into_iter().filter(|peer| ring.admits(peer.name)).collect();
    let installed = if others.is_empty() { None } else { Some(peers::install().await?) };
    for round in 1..=rounds {
        for contender in hetuflow::ALL {
            if !ring.admits(contender.name()) {
                continue;
            }
            eprintln!("round {round} of {rounds}: {}", contender.name());
            report.add(contender.name(), contender.fight(&mut ring).await?);
        }
        for peer in &others {
            eprintln!("round {round} of {rounds}: {}", peer.name);
            let Some(installed) = &installed else { break };
            report.add(peer.name, peer.fight(&mut ring, installed).await?);
        }
    }
    ring.cluster.close().await;
    judge(&mut report);
    report.print(form)
}

impl Ring {
    fn admits(&self, name: &str) -> bool {
        self.args.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn explain(report: &mut Report, args: &Args) {
    report.note(format!(
        "{} lives a round (cut after {} s), {} simulated agents with {} slots, {} keep-alive connections, start latency \
         at {} events/s",
        args.tasks, args.within, args.agents, args.slots, args.connections, args.rate
    ));
    report.note(
        "webhook: a signed POST of 1 KiB to the real server; fed: the same life without HTTP, signature and matching; \
         drain: the queue is filled first, then agents come",
    );
}

/// Beside the best of the others, in the same run.
fn judge(report: &mut Report) {
    let best = |report: &Report, figures: &[Figure], of: &str| {
        let names = peers::ALL.iter().map(|peer| peer.name).filter(|name| name.starts_with(of));
        let all = names.flat_map(|name| figures.iter().filter_map(|figure| report.median(name, *figure)));
        all.max_by(f64::total_cmp)
    };
    let fed = hetuflow::ALL[1].name();
    for peer in ["graphile-worker", "pg-boss", "procrastinate"] {
        let (ours, theirs) = (report.median(fed, RATE), best(report, &[RATE, DRAIN], peer));
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            report.note(format!(
                "lives/s of `{fed}` are {:.2} of the best of {peer} (drained or not)",
                ours / theirs
            ));
        }
    }
    let waits = (report.median(fed, START_P50), report.median("graphile-worker", START_P50));
    if let (Some(ours), Some(theirs)) = waits {
        report.note(format!("start p50 of `{fed}` is {:.2} of graphile-worker's", ours / theirs));
    }
}
