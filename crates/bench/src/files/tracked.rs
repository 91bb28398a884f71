//! An agent that follows many files: its memory, its restart, and what it uses while nothing happens.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    contender::{server, trigger},
    drops::{self, Dropped},
    starts::Starts,
};
use crate::{
    child::{Child, Drained, Voice, sibling},
    monotonic,
    processor::{self, Whose},
    program::Program,
    report::{Figure, Report},
};

pub(super) const NAME: &str = "hetuflow-agent";

const MEMORY: Figure = Figure("MiB");
const FIRST: Figure = Figure("first look s");
const RESTART: Figure = Figure("restart s");
const RESTARTED: Figure = Figure("MiB after it");
const IDLE: Figure = Figure("idle % of a core");

const FILES_IN_A_FOLDER: u32 = 100;
/// A restart with a million files takes its time.
const PATIENCE: Duration = Duration::from_mins(2);
const START_WITHIN: Duration = Duration::from_mins(2);
/// What is left to do after a file was reported is over by then.
const REST: Duration = Duration::from_secs(5);
const IDLE_FOR: Duration = Duration::from_secs(30);

pub(super) async fn measure(report: &mut Report, folder: &Path, count: u32) -> anyhow::Result<()> {
    let folder = folder.join(format!("tracked-{count}"));
    let inbox = folder.join("in");
    fs::create_dir_all(&inbox)?;
    let place = inbox.clone();
    spawn_blocking(move || fill(&place, count)).await.context("the writer failed")??;
    let mut starts = Starts::new(folder.join("starts"))?;
    let server = serve(&folder, &inbox, &starts).await?;
    let name = format!("{NAME}, {count} files");
    let mut agents = Agents { folder: &folder, url: format!("ws://{}", server.1) };

    let (agent, first) = agents.start(&mut starts, &inbox.join("first.csv")).await?;
    sleep(REST).await;
    report.add(&name, [(FIRST, first), (MEMORY, processor::resident(agent.pid()?)? / 1024.0)]);
    agent.stop().await;

    let (agent, restart) = agents.start(&mut starts, &inbox.join("second.csv")).await?;
    sleep(REST).await;
    let before = processor::used(Whose::Process(agent.pid()?))?;
    sleep(IDLE_FOR).await;
    let idle = (processor::used(Whose::Process(agent.pid()?))? - before) / 1e4 / IDLE_FOR.as_secs_f64();
    let memory = processor::resident(agent.pid()?)? / 1024.0;
    report.add(&name, [(RESTART, restart), (RESTARTED, memory), (IDLE, idle)]);
    agent.stop().await;
    server.0.stop().await;
    let verdict = |holds: bool| if holds { "holds" } else { "does not hold" };
    let allowed = if count > 100_000 { 300.0 } else { 40.0 };
    report.note(format!(
        "{count} files in folders of {FILES_IN_A_FOLDER}: at most {allowed} MiB: {}; a restart, from the start of the process to the \
         process for a file that came meanwhile, in less than 3 s: {}; idle at most 0.1 %: {}",
        verdict(memory <= allowed),
        verdict(restart < 3.0),
        verdict(idle <= 0.1)
    ));
    Ok(())
}

/// Before anybody looks: they are old.
fn fill(inbox: &Path, count: u32) -> anyhow::Result<()> {
    for number in 0..count.div_ceil(FILES_IN_A_FOLDER) {
        let folder = inbox.join(format!("folder-{number:06}"));
        fs::create_dir(&folder)?;
        drops::flat(&folder, "a-name-of-some-length", FILES_IN_A_FOLDER)?;
    }
    // Or the commits that are measured would wait for all of them.
    rustix::fs::sync();
    Ok(())
}

struct Agents<'a> {
    folder: &'a Path,
    url: String,
}

impl Agents<'_> {
    /// Seconds until a file that was dropped just before has a process.
    async fn start(&mut self, starts: &mut Starts, file: &Path) -> anyhow::Result<(Drained, f64)> {
        let environment = [
            ("SERVER_URL", self.url.clone()),
            ("HETUFLOW_AGENT__AGENT__ID", "bench".to_owned()),
            ("HETUFLOW_AGENT__AGENT__DATA_DIR", self.folder.join("agent").display().to_string()),
        ];
        // It comes while nobody looks.
        let known = self.folder.join("agent/watch.db").exists();
        let dropped = if known { Some(Dropped::one(file)?) } else { None };
        let began = monotonic::now();
        let agent = Child::start::<&str>(&sibling("hetuflow-agent")?, [], &environment, Voice::Stderr)?;
        let agent = agent.drain();
        let Some(dropped) = dropped else {
            // Until the watch is known to the agent no file is new: one of several that are dropped will be.
            starts.warm(file.parent().context("a folder")?).await?;
            return Ok((agent, (monotonic::now() - began) as f64 / 1e9));
        };
        let stretch = starts.of(&dropped, PATIENCE).await?;
        anyhow::ensure!(stretch.lost == 0, "the file that came meanwhile was not noticed");
        let waited = stretch.waits(&dropped).first().copied().unwrap_or_default();
        Ok((agent, waited.saturating_sub(began - dropped.first()) as f64 / 1e9))
    }
}

async fn serve(
    folder: &Path,
    inbox: &Path,
    starts: &Starts,
) -> anyhow::Result<(Drained, std::net::SocketAddr)> {
    let job = Program::default().path()?.display().to_string();
    let text = trigger(&inbox.join("**/*.csv"), "", &job, &starts.file.display().to_string());
    let environment = server(folder, &text)?;
    let mut process = Child::start::<&str>(&sibling("hetuflow-server")?, [], &environment, Voice::Stderr)?;
    let agents = process
        .line(START_WITHIN, |line| line.split_once("agents=")?.1.split_whitespace().next()?.parse().ok())
        .await?;
    Ok((process.drain(), agents))
}
