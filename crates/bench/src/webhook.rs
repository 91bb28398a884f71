//! `bench webhook`: from a signed delivery to a process that runs, end to end with real processes, beside Debian's
//! `webhook`, which keeps nothing. The job is the same tiny program for everybody and writes down when it started.

mod receiver;
mod runs;

use std::path::PathBuf;

use crate::{
    child::Child,
    database::Cluster,
    debian,
    machine::Machine,
    program::Program,
    report::{Figure, Form, Report},
    role::load::Sent,
    spread::Waits,
};
use receiver::{Kind, Receiver};
use runs::Runs;

const START_P50: Figure = Figure("start p50 ms");
const START_P99: Figure = Figure("start p99 ms");
const ANSWER_P50: Figure = Figure("answer p50 ms");
const RATE: Figure = Figure("runs/s");
/// What a process life costs, its own time apart: the receiver with all that it needs besides the job and PostgreSQL.
const RECEIVER: Figure = Figure("receiver µs/run");

/// Whom the target names, and what it allows beyond.
const BEYOND_SYNCS: f64 = 0.5;
const WARM: u64 = 20;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// One short round
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Deliveries at full speed in one round
    #[arg(long, default_value_t = 2000)]
    runs: u64,
    /// Deliveries at a low rate in one round, and how many in a second
    #[arg(long, default_value_t = 200)]
    paced: u64,
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Processes that hetuflow's agent runs at once (`max_concurrent_tasks`)
    #[arg(long, default_value_t = 16)]
    slots: u32,
    /// Connections that send at full speed
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// The program that is started
    #[arg(long, value_enum, default_value_t = Program::Bare)]
    job: Program,
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
    folder: PathBuf,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        (args.rounds, args.runs) = (1, args.runs / 2);
    }
    let folder = tempfile::Builder::new().prefix("hetuflow-bench-").tempdir()?;
    let machine = Machine::look(folder.path())?;
    let sync = machine.fdatasync.p50;
    let mut report = Report::new("From a signed delivery to a process", machine);
    let cluster = Cluster::find().await?;
    explain(&mut report, &args);
    let (form, rounds) = (if args.json { Form::Json } else { Form::Table }, args.rounds);
    debian::install().await;
    let kinds = Kind::present(&mut report);
    let mut ring = Ring { args, cluster, folder: folder.path().to_owned() };
    for round in 1..=rounds {
        for kind in &kinds {
            if ring.args.only.as_ref().is_some_and(|only| !kind.name().contains(only.as_str())) {
                continue;
            }
            eprintln!("round {round} of {rounds}: {}", kind.name());
            report.add(kind.name(), ring.fight(*kind).await?);
        }
        report.add(
            "spawn and wait, two at once",
            [(RATE, runs::spawn_loop(&ring.folder, &ring.args.job.path()?, ring.args.runs).await?)],
        );
    }
    ring.cluster.close().await;
    judge(&mut report, sync);
    report.print(form)
}

impl Ring {
    async fn fight(&mut self, kind: Kind) -> anyhow::Result<Vec<(Figure, f64)>> {
        let folder = self.folder.join("round");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let mut runs = Runs::new(folder.join("runs"))?;
        let receiver = Receiver::start(kind, &mut self.cluster, &folder, &runs, &self.args).await?;
        // Files are opened, statements prepared, programs in memory.
        self.send(&receiver, WARM, Some(self.args.rate)).await?;
        runs.until(WARM).await?;
        let (count, rate) = (self.args.paced, self.args.rate);
        let sent = self.send(&receiver, count, Some(rate)).await?;
        let starts = Waits::of(&runs.until(count).await?.waits());
        let before = receiver.used()?;
        let flood = self.send(&receiver, self.args.runs, None).await?;
        let last = runs.until(self.args.runs).await?.last();
        let used = receiver.used()? - before;
        receiver.stop(&mut self.cluster).await?;
        let many = self.args.runs as f64;
        let seconds = last.saturating_sub(flood.began) as f64 / 1e9;
        let mut figures = vec![(RATE, many / seconds), (RECEIVER, used / many)];
        figures
            .extend(starts.into_iter().flat_map(|starts| [(START_P50, starts.p50), (START_P99, starts.p99)]));
        figures.extend(sent.answer.map(|answer| (ANSWER_P50, answer.p50)));
        Ok(figures)
    }

    async fn send(&self, receiver: &Receiver, count: u64, rate: Option<u32>) -> anyhow::Result<Sent> {
        let mut args = vec![
            "load".to_owned(),
            format!("--address={}", receiver.address),
            format!("--status={}", receiver.kind.status()),
            format!("--count={count}"),
            format!("--connections={}", self.args.connections),
            "--depth=1".to_owned(),
        ];
        args.extend(rate.map(|rate| format!("--rate={rate}")));
        let mut load = Child::role(&args)?;
        let sent: Sent = load.said(runs::WITHIN).await?;
        load.stop().await;
        anyhow::ensure!(sent.refused == 0, "{} of {count} deliveries were refused", sent.refused);
        Ok(sent)
    }
}

fn explain(report: &mut Report, args: &Args) {
    report.note(format!(
        "start: from the sending of a delivery of 1 KiB to the first line of the job's main, {} at {} a second; runs/s: {} \
         deliveries over {} connections, from the first sent to the last job started",
        args.paced, args.rate, args.runs, args.connections
    ));
    report.note(format!("the program that is started: {}", args.job.name()));
    report.note(format!(
        "hetuflow's agent runs {} processes at once; Debian's webhook starts one per delivery, without a bound, and keeps \
         nothing; both check the same HMAC",
        args.slots
    ));
}

fn judge(report: &mut Report, sync: f64) {
    let Some(theirs) = report.median(Kind::Debian.name(), START_P50) else { return };
    let (allowed, rate) = (theirs + 2.0 * sync + BEYOND_SYNCS, report.median(Kind::Debian.name(), RATE));
    for kind in [Kind::Up, Kind::Split] {
        let verdict = |holds: bool| if holds { "holds" } else { "does not hold" };
        if let Some(ours) = report.median(kind.name(), START_P50) {
            report.note(format!(
                "{}: start p50 {ours:.2} ms <= {theirs:.2} + 2 x {sync:.2} (fdatasync) + {BEYOND_SYNCS} = {allowed:.2} ms: {}",
                kind.name(),
                verdict(ours <= allowed)
            ));
        }
        if let (Some(ours), Some(theirs)) = (report.median(kind.name(), RATE), rate) {
            let times = ours / theirs;
            report.note(format!(
                "{}: runs/s are {times:.2} of Debian's webhook; at least 1.5: {}; at least 2: {}",
                kind.name(),
                verdict(times >= 1.5),
                verdict(times >= 2.0)
            ));
        }
    }
}
