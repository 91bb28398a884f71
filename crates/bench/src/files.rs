//! `bench files`: from the close of a file to a process that runs for it, many files at once, and what an agent costs that
//! follows many, beside Debian's `incron` and a shell loop over `inotifywait`, which remember nothing. The job is the
//! same tiny program for everybody and writes down which file it was started for.

mod contender;
mod drops;
mod starts;
mod tracked;

use std::path::Path;

use crate::{
    machine::Machine,
    program::Program,
    report::{Figure, Form, Report},
    spread::Waits,
};
use contender::{Contender, Kind};
use drops::Drop;
use starts::{QUIET, Starts, Stretch};

const START_P50: Figure = Figure("start p50 ms");
const START_P99: Figure = Figure("start p99 ms");
const MOVED_P50: Figure = Figure("moved p50 ms");
const BURST: Figure = Figure("at once s");
const BURST_LOST: Figure = Figure("lost");
const FLOOD: Figure = Figure("flood s");
const FLOOD_LOST: Figure = Figure("lost of flood");
const TREE: Figure = Figure("new folders s");
const TREE_LOST: Figure = Figure("lost of new folders");
const DOUBLED: Figure = Figure("doubled");

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// One short round
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Files at a low rate in one round, and how many in a second
    #[arg(long, default_value_t = 200)]
    paced: u32,
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Files dropped at once
    #[arg(long, default_value_t = 10_000)]
    burst: u32,
    /// More files dropped at once than the kernel's queue of events holds; 0 leaves it out
    #[arg(long, default_value_t = 25_000)]
    flood: u32,
    /// Folders that are made and filled with ten files each; 0 leaves them out
    #[arg(long, default_value_t = 1000)]
    folders: u32,
    /// Processes that hetuflow's agent runs at once (`max_concurrent_tasks`)
    #[arg(long, default_value_t = 16)]
    slots: u32,
    /// Files that an agent follows for its memory, its restart and its idle time; 0 leaves it out
    #[arg(long, default_value_t = 100_000)]
    tracked: u32,
    /// Follow a million files too
    #[arg(long)]
    million: bool,
    /// The program that is started
    #[arg(long, value_enum, default_value_t = Program::Bare)]
    job: Program,
    /// Only contenders whose name contains this
    #[arg(long)]
    only: Option<String>,
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        (args.rounds, args.paced) = (1, args.paced / 2);
    }
    let folder = tempfile::Builder::new().prefix("hetuflow-bench-").tempdir()?;
    let mut report = Report::new("From a file that is closed to a process", Machine::look(folder.path())?);
    contender::install().await;
    explain(&mut report, &args);
    let kinds = Kind::present(&mut report);
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    for round in 1..=args.rounds {
        for kind in kinds.iter().copied().filter(|kind| wanted(kind.name())) {
            eprintln!("round {round} of {}: {}", args.rounds, kind.name());
            let place = folder.path().join(format!("{round}-{kind:?}"));
            report.add(kind.name(), fight(kind, &args, &place).await?);
        }
    }
    judge(&mut report);
    let many = [args.tracked, if args.million { 1_000_000 } else { 0 }];
    for count in many.into_iter().filter(|count| *count > 0 && wanted(tracked::NAME)) {
        eprintln!("an agent that follows {count} files");
        tracked::measure(&mut report, folder.path(), count).await?;
    }
    report.print(if args.json { Form::Json } else { Form::Table })
}

async fn fight(kind: Kind, args: &Args, folder: &Path) -> anyhow::Result<Vec<(Figure, f64)>> {
    make(folder)?;
    let mut starts = Starts::new(folder.join("starts"))?;
    let contender = Contender::start(kind, folder, &starts, args).await?;
    let inbox = folder.join("in");
    starts.warm(&inbox.join("a")).await?;
    let paced = drops::paced(inbox.join("a"), args.paced, args.rate).await?;
    let mut doubled = 0;
    let stretch = starts.of(&paced, QUIET).await?;
    let mut figures = Vec::new();
    if let Some(waits) = Waits::of(&stretch.waits(&paced)) {
        figures.extend([(START_P50, waits.p50), (START_P99, waits.p99)]);
    }
    doubled += stretch.doubled;
    let moved = drops::moved(&folder.join("staging"), inbox.join("a"), args.paced, args.rate).await?;
    let stretch = starts.of(&moved, QUIET).await?;
    figures.extend(Waits::of(&stretch.waits(&moved)).map(|waits| (MOVED_P50, waits.p50)));
    doubled += stretch.doubled;
    let phases = [
        (Drop::Flat(inbox.join("a"), args.burst), BURST, BURST_LOST),
        (Drop::Flat(inbox.join("b"), args.flood), FLOOD, FLOOD_LOST),
        (Drop::Tree(inbox.join("c"), args.folders), TREE, TREE_LOST),
    ];
    for (drop, seconds, lost) in phases {
        if drop.is_empty() {
            continue;
        }
        let dropped = drop.all().await?;
        let stretch: Stretch = starts.of(&dropped, QUIET).await?;
        figures.extend([(seconds, stretch.seconds(&dropped)), (lost, f64::from(stretch.lost))]);
        doubled += stretch.doubled;
    }
    figures.push((DOUBLED, f64::from(doubled)));
    contender.stop().await;
    Ok(figures)
}

/// The folders that everybody watches. Those of an earlier round stay until the end: ext4 avoids inodes that were freed in
/// the last minutes, and is slow at it where there are thousands.
fn make(folder: &Path) -> anyhow::Result<()> {
    for inbox in ["a", "b", "c"] {
        std::fs::create_dir_all(folder.join("in").join(inbox))?;
    }
    Ok(())
}

fn explain(report: &mut Report, args: &Args) {
    report.note(format!(
        "start: from just before the close of a file to the first line of the job's main, {} files at {} a second; \
         moved: as many from just before the rename that puts each into its place; \
         at once: {} files from the first close to the last process, one for each; flood: {}; new folders: {} with ten files each, \
         from `mkdir` on",
        args.paced, args.rate, args.burst, args.flood, args.folders
    ));
    report.note(format!("the program that is started: {}", args.job.name()));
    report.note(format!(
        "hetuflow's agent runs {} processes at once; incron starts one per event, without a bound; the loop runs one after \
         the other; both keep nothing",
        args.slots
    ));
}

fn judge(report: &mut Report) {
    let verdict = |holds: bool| if holds { "holds" } else { "does not hold" };
    for kind in [Kind::Up, Kind::Prompt] {
        let ours = |report: &Report, figure| report.median(kind.name(), figure);
        let theirs = |report: &Report, kind: Kind, figure| report.median(kind.name(), figure);
        for (figure, what) in [(START_P50, "start"), (MOVED_P50, "start of what was moved,")] {
            let (one, other) = (ours(report, figure), theirs(report, Kind::Incron, figure));
            if let (Some(one), Some(other)) = (one, other) {
                report.note(format!(
                    "{}: {what} p50 is {:.2} of incron's, at most 1: {}",
                    kind.name(),
                    one / other,
                    verdict(one <= other)
                ));
            }
        }
        if let (Some(one), Some(other)) = (ours(report, BURST), theirs(report, Kind::Loop, BURST)) {
            report.note(format!(
                "{}: {:.2} of the loop's time for files at once, at most 1: {}",
                kind.name(),
                one / other,
                verdict(one <= other)
            ));
        }
    }
}
