//! `files`: files that six kinds of writers leave in a watched folder, while the agent and the server are killed, the
//! agent is frozen, and its memory of files is rolled back to older copies and deleted. Every file must have one task, and
//! what the job reads must be the whole file.

mod faults;
mod judge;
mod place;
pub(crate) mod witness;
mod writers;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::history;
use faults::Plan;
use judge::Verdict;
use place::Place;
use writers::{Writers, Written};

const LOOK: Duration = Duration::from_millis(200);

/// After the last fault, while nothing comes any nearer to its end.
const STUCK_FOR: Duration = Duration::from_mins(2);

#[derive(Debug, Clone, Args)]
pub(crate) struct FilesArgs {
    /// The plan of faults and of what is written
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 200)]
    agent_kills: u32,
    #[arg(long, default_value_t = 20)]
    server_kills: u32,
    /// How often the agent's memory of files is replaced by an older copy
    #[arg(long, default_value_t = 10)]
    rollbacks: u32,
    /// How often it is deleted
    #[arg(long, default_value_t = 5)]
    deletions: u32,
    #[arg(long, default_value_t = 10)]
    freezes: u32,
    /// What belongs to every change: a dozen kills
    #[arg(long)]
    short: bool,
    /// Files are claimed: renamed before they are told
    #[arg(long)]
    claim: bool,
    /// Files are told in batches
    #[arg(long)]
    batch: bool,
    /// Where the folder of the run is made; a run that fails leaves it there
    #[arg(long, default_value = "/tmp")]
    folder: PathBuf,
    /// Where the binaries under test are; beside this one when not given
    #[arg(long)]
    binaries: Option<PathBuf>,
}

pub(crate) async fn run(mut args: FilesArgs) -> anyhow::Result<ExitCode> {
    if args.short {
        (args.agent_kills, args.server_kills, args.freezes) = (12, 2, 1);
        (args.rollbacks, args.deletions) = (2, 1);
    }
    let seed = args.seed.unwrap_or_else(|| history::now() / 1_000_000 % 1_000_000);
    let folder = tempfile::Builder::new().prefix(&format!("chaos-files-{seed}-")).tempdir_in(&args.folder)?;
    eprintln!("files, seed {seed}, in {}", folder.path().display());
    let ended = storm(&args, seed, folder.path().to_owned()).await;
    let good = match &ended {
        Ok(verdict) => verdict.say(),
        Err(error) => {
            eprintln!("the run broke: {error:#}");
            false
        }
    };
    if good {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("FAILED; the histories are in {}", folder.keep().display());
    eprintln!(
        "again: cargo xtask chaos --files --seed {seed}{}{}{}",
        if args.short { " --short" } else { "" },
        if args.claim { " --claim" } else { "" },
        if args.batch { " --batch" } else { "" }
    );
    Ok(ExitCode::FAILURE)
}

async fn storm(args: &FilesArgs, seed: u64, folder: PathBuf) -> anyhow::Result<Verdict> {
    let binaries = match &args.binaries {
        Some(binaries) => binaries.clone(),
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    let claim = if args.claim { "claim = \"rename\"\n" } else { "" };
    let batch = if args.batch { "batch = { max_files = 7, max_wait = \"400ms\" }\n" } else { "" };
    let mut place = Place::start(&folder, &binaries, &format!("{claim}{batch}")).await?;
    let plan = Plan {
        agent_kills: args.agent_kills,
        server_kills: args.server_kills,
        rollbacks: args.rollbacks,
        deletions: args.deletions,
        freezes: args.freezes,
    };
    let began = Instant::now();
    let writers = Writers::start(&folder, seed)?;
    let done = faults::run(&mut place, &plan, seed, &writers).await;
    let written = writers.stop().await?;
    let done = done?;
    eprintln!("{} files in {} s: {done}", written.len(), began.elapsed().as_secs());
    settle(&place, &folder, &written).await?;
    let state = place.api()?.state().await?;
    place.stop().await?;
    let witnesses = witness::read(&folder)?;
    let told = if args.batch { judge::by_process(&witnesses) } else { judge::by_event(&state) };
    Ok(judge::judge(&written, &told, &witnesses))
}

/// Waits until a process has seen every file that was written and every task has ended, or nothing happens any more: then the
/// judge says what. Events are not counted: those of files that only show that the watch works are among them.
async fn settle(place: &Place, folder: &Path, written: &[Written]) -> anyhow::Result<()> {
    let (mut best, mut since) = ((usize::MAX, usize::MAX), Instant::now());
    while since.elapsed() < STUCK_FOR {
        sleep(LOOK).await;
        let Ok(api) = place.api() else { continue };
        let (Ok(seen), Ok(tasks)) = (witness::read(folder), api.count_unsettled().await) else { continue };
        let seen: HashSet<&str> = seen.iter().map(|one| one.path.as_str()).collect();
        let unseen = written.iter().filter(|file| !seen.contains(file.path.as_str())).count();
        let left = (unseen, tasks);
        if left == (0, 0) {
            return Ok(());
        }
        if left < best {
            (best, since) = (left, Instant::now());
        }
    }
    eprintln!("not everything settles: {} files that no process saw, {} tasks", best.0, best.1);
    Ok(())
}
