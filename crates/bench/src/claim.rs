//! `bench claim`: what a claim costs after many tasks, while somebody's old snapshot keeps every dead row in place.
//! Ours beside the textbook's (`for update skip locked` in a subquery), the same batches, on the same PostgreSQL.

mod ours;
mod textbook;

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{
    database::Cluster,
    machine::Machine,
    report::{Figure, Form, Report},
    spread::Waits,
};

const NAME: &str = "bench_claim";

/// Tasks in one turn: they are added, claimed and ended.
const BATCH: u32 = 50;
/// Turns whose claims make one figure.
const WINDOW: usize = 100;
const DATABASE: Figure = Figure("PostgreSQL µs/task");

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Tasks that go through the queue; figures are taken at the start, after a tenth, and at the end
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,
    /// A contender is given up after this many seconds and counted as far as it came
    #[arg(long, default_value_t = 600)]
    within: u64,
    /// 20,000 tasks
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    only: Option<String>,
    #[arg(long)]
    json: bool,
}

/// A queue with one consumer.
#[async_trait]
trait Queue: Send {
    /// Due now.
    async fn add(&mut self, count: u32) -> anyhow::Result<()>;
    /// The first of them; what was taken is kept for [`Queue::end`].
    async fn claim(&mut self, count: u32) -> anyhow::Result<usize>;
    async fn end(&mut self) -> anyhow::Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snapshot {
    None,
    /// Taken before the first task, held to the end.
    Old,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        args.tasks = 20_000;
    }
    let folder = tempfile::tempdir()?;
    let mut report = Report::new("A claim after many tasks", Machine::look(folder.path())?);
    let mut cluster = Cluster::find().await?;
    report.note(format!("PostgreSQL: {}", cluster.settings().await?));
    report.note(format!(
        "claim p50: of {WINDOW} claims of {BATCH}; {} tasks, one connection, each turn adds, claims and ends {BATCH}; the \
         old snapshot is a repeatable read transaction that has read once, before the first task",
        args.tasks
    ));
    for snapshot in [Snapshot::None, Snapshot::Old] {
        for ours in [true, false] {
            let name = name(ours, snapshot);
            if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                continue;
            }
            eprintln!("{name}");
            let url = cluster.fresh(NAME).await?;
            let mut queue: Box<dyn Queue> = if ours {
                Box::new(ours::Ours::open(&url).await?)
            } else {
                Box::new(textbook::Textbook::open(&url).await?)
            };
            let mut holder = cluster.watch(NAME).await?;
            if snapshot == Snapshot::Old {
                holder.hold_snapshot().await?;
            }
            let walked = walk(queue.as_mut(), &args, &cluster).await?;
            if walked.tasks < args.tasks {
                report.note(format!("{name}: given up after {} tasks", walked.tasks));
            }
            report.add(name, walked.figures);
            drop(queue);
            holder.close().await;
            cluster.remove(NAME).await?;
        }
    }
    cluster.close().await;
    report.print(if args.json { Form::Json } else { Form::Table })
}

const fn name(ours: bool, snapshot: Snapshot) -> &'static str {
    match (ours, snapshot) {
        (true, Snapshot::None) => "hetuflow",
        (true, Snapshot::Old) => "hetuflow, old snapshot",
        (false, Snapshot::None) => "textbook",
        (false, Snapshot::Old) => "textbook, old snapshot",
    }
}

struct Walked {
    tasks: u64,
    figures: Vec<(Figure, f64)>,
}

async fn walk(queue: &mut dyn Queue, args: &Args, cluster: &Cluster) -> anyhow::Result<Walked> {
    let (turns, deadline) =
        (args.tasks / u64::from(BATCH), Instant::now() + Duration::from_secs(args.within));
    let (mut claims, before) = (Vec::new(), cluster.used()?);
    for _ in 0..turns {
        if Instant::now() > deadline {
            break;
        }
        queue.add(BATCH).await?;
        let start = Instant::now();
        let claimed = queue.claim(BATCH).await?;
        claims.push(u64::try_from(start.elapsed().as_nanos())?);
        anyhow::ensure!(claimed == BATCH as usize, "{claimed} of {BATCH} tasks were claimed");
        queue.end().await?;
    }
    let tasks = claims.len() as u64 * u64::from(BATCH);
    let used = (cluster.used()? - before) / tasks as f64;
    let turns = usize::try_from(turns)?;
    let places = [("claim p50 ms, first", 0), ("after a tenth", turns / 10), ("at the end", turns - WINDOW)];
    let window = |from: usize| Some(Waits::of(claims.get(from..from + WINDOW)?)?.p50);
    let mut figures: Vec<(Figure, f64)> =
        places.into_iter().filter_map(|(label, from)| Some((Figure(label), window(from)?))).collect();
    if claims.len() < turns {
        // Where it was given up.
        figures.extend(window(claims.len().saturating_sub(WINDOW)).map(|p50| (Figure("when given up"), p50)));
    }
    figures.push((DATABASE, used));
    Ok(Walked { tasks, figures })
}
