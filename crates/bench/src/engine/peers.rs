//! The others, on the same PostgreSQL: installed from their registries into a folder of the run's own choosing, driven
//! by the scripts in `crates/bench/peers`, each set as its own documentation says is fastest.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::{DATABASE, DRAIN, LOAD, LOG, RATE, Ring, START_P50, START_P99, WORKERS};
use crate::{
    child::{Child, Voice, command, sibling},
    database::Watch,
    processor::{self, Whose},
    report::Figure,
    spread::Waits,
};

const NAME: &str = "bench_peer";
const START_WITHIN: Duration = Duration::from_secs(30);

/// Files that are written out for the run, so that the binary alone is enough.
const FILES: [(&str, &str); 6] = [
    ("package.json", include_str!("../../peers/package.json")),
    ("bench.mjs", include_str!("../../peers/bench.mjs")),
    ("graphile.mjs", include_str!("../../peers/graphile.mjs")),
    ("pgboss.mjs", include_str!("../../peers/pgboss.mjs")),
    ("procrastinate_driver.py", include_str!("../../peers/procrastinate_driver.py")),
    ("requirements.txt", include_str!("../../peers/requirements.txt")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Node,
    Python,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    language: Language,
    script: &'static str,
    /// What follows the URL on the command line of a process that works.
    work: &'static [&'static str],
    /// Processes that work at once.
    processes: usize,
    /// Jobs that are added by one call.
    batch: u64,
    /// It is slow: a round has this part of the jobs.
    part: u64,
    /// Whether a job is left.
    unfinished: &'static str,
}

const fn graphile(name: &'static str, work: &'static [&'static str], processes: usize) -> Peer {
    let unfinished = "select exists (select from graphile_worker._private_jobs)";
    let (language, script) = (Language::Node, "graphile.mjs");
    Peer { name, language, script, work, processes, batch: 1000, part: 1, unfinished }
}

const fn pg_boss(name: &'static str, work: &'static [&'static str]) -> Peer {
    let unfinished = "select exists (select from pgboss.job where state < 'completed')";
    let (language, script) = (Language::Node, "pgboss.mjs");
    Peer { name, language, script, work, processes: 1, batch: 1000, part: 1, unfinished }
}

/// The first words say how the process works (`work`, `loop`), the others are for its script.
pub(super) const ALL: [Peer; 6] = [
    graphile("graphile-worker", &["work", "24", "0"], 1),
    graphile("graphile-worker, local queue", &["work", "24", "500"], 1),
    graphile("graphile-worker, local queue, 2 processes", &["work", "24", "500"], 2),
    pg_boss("pg-boss, work()", &["work", "500", "4", "notify"]),
    pg_boss("pg-boss, fetch loop", &["loop", "500", "2", "poll"]),
    Peer {
        name: "procrastinate",
        language: Language::Python,
        script: "procrastinate_driver.py",
        work: &["work", "20"],
        processes: 1,
        batch: 1000,
        part: 20,
        unfinished: "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
    },
];

/// The folder with everything installed.
#[derive(Debug, Clone)]
pub(super) struct Installed(PathBuf);

/// What a process that works has run since it was last asked.
#[derive(Deserialize)]
struct Ran {
    run: u64,
    first_started: u64,
    waits: Vec<u64>,
}

#[derive(Deserialize)]
struct Added {
    began: u64,
}

/// Installs what is not there yet. The folder lies beside the binaries, so that it is kept and `cargo clean` finds it.
pub(super) async fn install() -> anyhow::Result<Installed> {
    let folder = sibling("hetuflow-bench")?.with_file_name("peers");
    fs::create_dir_all(&folder)?;
    let changed = FILES.iter().filter(|(name, text)| {
        fs::read_to_string(folder.join(name)).map_or(true, |written| written != *text)
    });
    for (name, text) in changed {
        fs::write(folder.join(name), text)?;
    }
    let stamp = folder.join("installed");
    let wanted = format!("{}{}", FILES[0].1, FILES[5].1);
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(Installed(folder));
    }
    let here = |path: &str| folder.join(path);
    tool(&folder, Path::new("npm"), &["install", "--no-audit", "--no-fund", "--no-package-lock"]).await?;
    tool(&folder, Path::new("python3"), &["-m", "venv", "python"]).await?;
    tool(&folder, &here("python/bin/pip"), &["install", "--quiet", "-r", "requirements.txt"]).await?;
    fs::write(&stamp, wanted)?;
    Ok(Installed(folder))
}

async fn tool(folder: &Path, program: &Path, args: &[&str]) -> anyhow::Result<()> {
    let name = program.display();
    eprintln!("installing peers: {name} {}", args.join(" "));
    let output = command(program).args(args).current_dir(folder).output().await;
    let output = output.with_context(|| {
        format!("peers need {name}, which cannot be run; leave them out with --only hetuflow")
    })?;
    ensure!(output.status.success(), "{name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Installed {
    fn start(&self, peer: &Peer, words: &[&str]) -> anyhow::Result<Child> {
        let program = match peer.language {
            Language::Node => "node_modules/.bin/node",
            Language::Python => "python/bin/python",
        };
        let script = self.0.join(peer.script).display().to_string();
        let args = [script.as_str()].into_iter().chain(words.iter().copied());
        Child::start(&self.0.join(program), args, &[], Voice::Stdout)
    }
}

impl Peer {
    pub(super) async fn fight(
        &self,
        ring: &mut Ring,
        installed: &Installed,
    ) -> anyhow::Result<Vec<(Figure, f64)>> {
        let url = ring.cluster.fresh(NAME).await?;
        if self.language == Language::Python {
            installed.start(self, &["schema", &url])?.ended().await?;
        }
        let adder = self.ready(installed, &["add", &url]).await?;
        let watch = ring.cluster.watch(NAME).await?;
        let count = (ring.args.tasks / self.part).max(100);
        let mut bout = Bout { peer: self, ring, installed, url, adder, watch, count };
        let workers = bout.workers().await?;
        let mut figures = bout.latency(workers).await?;
        let workers = bout.workers().await?;
        figures.extend(bout.throughput(workers).await?);
        figures.push(bout.drain().await?);
        bout.adder.stop().await;
        bout.watch.close().await;
        ring.cluster.remove(NAME).await?;
        Ok(figures)
    }

    async fn ready(&self, installed: &Installed, words: &[&str]) -> anyhow::Result<Child> {
        let mut child = installed.start(self, words)?;
        child.line(START_WITHIN, |line| line.contains("ready").then_some(())).await?;
        Ok(child)
    }
}

/// One peer's round.
struct Bout<'a> {
    peer: &'a Peer,
    ring: &'a mut Ring,
    installed: &'a Installed,
    url: String,
    adder: Child,
    watch: Watch,
    count: u64,
}

impl Bout<'_> {
    async fn latency(&mut self, mut workers: Vec<Child>) -> anyhow::Result<Vec<(Figure, f64)>> {
        // One that is slow gets a rate that it can follow, and the same time.
        let slower = self.peer.part.min(4);
        let (count, rate) = (self.ring.args.paced / slower, u64::from(self.ring.args.rate) / slower);
        // Those that start read their first jobs from the schema, compile, and so on.
        self.add("feed", 100, 100).await?;
        self.until_finished().await?;
        reports(&mut workers).await?;
        self.add("pace", count, rate).await?;
        self.until_finished().await?;
        let waits: Vec<u64> = reports(&mut workers).await?.into_iter().flat_map(|ran| ran.waits).collect();
        stop(workers).await;
        let waits = Waits::of(&waits).context("no job ran")?;
        Ok(vec![(START_P50, waits.p50), (START_P99, waits.p99)])
    }

    async fn throughput(&mut self, mut workers: Vec<Child>) -> anyhow::Result<Vec<(Figure, f64)>> {
        let before = self.used(&workers).await?;
        let added = self.add("feed", self.count, self.peer.batch).await?;
        let finished = self.until_finished().await?;
        let after = self.used(&workers).await?;
        let run: u64 = reports(&mut workers).await?.iter().map(|ran| ran.run).sum();
        stop(workers).await;
        ensure!(run == self.count, "{} ran {run} of {} jobs", self.peer.name, self.count);
        let seconds = finished.saturating_sub(added.began) as f64 / 1e9;
        let lives = self.count as f64;
        let each = |n: usize| (after[n] - before[n]) / lives;
        Ok(vec![
            (RATE, lives / seconds),
            (DATABASE, each(0)),
            (WORKERS, each(1)),
            (LOAD, each(2)),
            (LOG, each(3)),
        ])
    }

    async fn drain(&mut self) -> anyhow::Result<(Figure, f64)> {
        self.add("feed", self.count, self.peer.batch).await?;
        let mut workers = self.workers().await?;
        let finished = self.until_finished().await?;
        let first =
            reports(&mut workers).await?.iter().map(|ran| ran.first_started).filter(|at| *at > 0).min();
        stop(workers).await;
        let seconds = finished.saturating_sub(first.context("no job ran")?) as f64 / 1e9;
        Ok((DRAIN, self.count as f64 / seconds))
    }

    async fn workers(&self) -> anyhow::Result<Vec<Child>> {
        let mut words = vec![self.peer.work[0], &self.url];
        words.extend(&self.peer.work[1..]);
        let mut workers = Vec::new();
        for _ in 0..self.peer.processes {
            workers.push(self.peer.ready(self.installed, &words).await?);
        }
        Ok(workers)
    }

    async fn add(&mut self, order: &str, count: u64, by: u64) -> anyhow::Result<Added> {
        self.adder.tell(&format!("{order} {count} {by}")).await?;
        self.adder.said(self.within()).await
    }

    /// When nothing was left in the database.
    async fn until_finished(&mut self) -> anyhow::Result<u64> {
        let within = self.within();
        let name = self.peer.name;
        self.watch
            .until_none(self.peer.unfinished, within)
            .await
            .with_context(|| format!("{name} did not finish"))
    }

    /// The database, the workers, the adder, the log.
    async fn used(&mut self, workers: &[Child]) -> anyhow::Result<[f64; 4]> {
        let of = |child: &Child| processor::used(Whose::Process(child.pid()?));
        let each: Vec<f64> = workers.iter().map(of).collect::<anyhow::Result<_>>()?;
        let log = self.ring.cluster.log_written().await?;
        Ok([self.ring.cluster.used()?, each.iter().sum(), of(&self.adder)?, log])
    }

    fn within(&self) -> Duration {
        Duration::from_secs(self.ring.args.within + 30)
    }
}

async fn reports(workers: &mut [Child]) -> anyhow::Result<Vec<Ran>> {
    let mut reports = Vec::new();
    for worker in workers {
        worker.tell("report").await?;
        reports.push(worker.said(START_WITHIN).await?);
    }
    Ok(reports)
}

async fn stop(workers: Vec<Child>) {
    for worker in workers {
        worker.stop().await;
    }
}
