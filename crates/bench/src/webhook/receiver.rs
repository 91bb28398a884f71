//! Who receives and runs: `hetuflow up`, server and agent apart, or Debian's `webhook`.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use serde_json::json;

use super::{Args, Runs};
use crate::{
    child::{Child, Drained, Voice, sibling},
    database::Cluster,
    debian, payload,
    processor::{self, Whose},
    report::Report,
};

const NAME: &str = "bench_webhook";
const START_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Debian,
    Up,
    Split,
}

impl Kind {
    /// Those that this machine has.
    pub(super) fn present(report: &mut Report) -> Vec<Self> {
        let debian = debian::present(report);
        [Self::Debian, Self::Up, Self::Split]
            .into_iter()
            .filter(|kind| debian || *kind != Self::Debian)
            .collect()
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian's webhook",
            Self::Up => "hetuflow up, SQLite",
            Self::Split => "hetuflow-server + agent, PostgreSQL",
        }
    }

    /// Of a delivery that was taken.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Debian => 200,
            Self::Up | Self::Split => 202,
        }
    }
}

pub(super) struct Receiver {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    processes: Vec<Drained>,
}

impl Receiver {
    pub(super) async fn start(
        kind: Kind,
        cluster: &mut Cluster,
        folder: &Path,
        runs: &Runs,
        args: &Args,
    ) -> anyhow::Result<Self> {
        let (job, slots) = (args.job.path()?.display().to_string(), args.slots);
        let runs = runs.file.display().to_string();
        match kind {
            Kind::Debian => {
                let arguments =
                    [json!({"source": "string", "name": runs}), json!({"source": "payload", "name": "sent"})];
                let (process, address) = debian::start(folder, &job, &arguments, &[]).await?;
                Ok(Receiver { kind, address, processes: vec![process] })
            }
            Kind::Up => up(folder, &job, &runs, slots).await,
            Kind::Split => split(&cluster.fresh(NAME).await?, folder, &job, &runs, slots).await,
        }
    }

    /// Of its processes and the jobs that they waited for, in microseconds.
    pub(super) fn used(&self) -> anyhow::Result<f64> {
        self.processes.iter().map(|process| processor::used(Whose::Process(process.pid()?))).sum()
    }

    pub(super) async fn stop(self, cluster: &mut Cluster) -> anyhow::Result<()> {
        for process in self.processes.into_iter().rev() {
            process.stop().await;
        }
        if self.kind == Kind::Split { cluster.remove(NAME).await } else { Ok(()) }
    }
}

async fn up(folder: &Path, job: &str, runs: &str, slots: u32) -> anyhow::Result<Receiver> {
    let config = folder.join("server.toml");
    fs::write(&config, "")?;
    let database = format!("sqlite:{}", folder.join("hetuflow.db").display());
    let mut environment = server(&database, folder, job, runs)?;
    environment.extend(agent(folder, slots));
    let args = ["up", "--config", &config.display().to_string()];
    let mut process = Child::start(&sibling("hetuflow")?, args, &environment, Voice::Stderr)?;
    let address = process.line(START_WITHIN, |line| place(line, "hooks=")).await?;
    process.line(START_WITHIN, |line| line.contains("ready").then_some(())).await?;
    Ok(Receiver { kind: Kind::Up, address, processes: vec![process.drain()] })
}

async fn split(database: &str, folder: &Path, job: &str, runs: &str, slots: u32) -> anyhow::Result<Receiver> {
    let environment = server(database, folder, job, runs)?;
    let mut process = Child::start::<&str>(&sibling("hetuflow-server")?, [], &environment, Voice::Stderr)?;
    let (agents, address) =
        process.line(START_WITHIN, |line| Some((place(line, "agents=")?, place(line, "hooks=")?))).await?;
    let mut environment = agent(folder, slots);
    environment.push(("SERVER_URL", format!("ws://{agents}")));
    let agent = Child::start::<&str>(&sibling("hetuflow-agent")?, [], &environment, Voice::Stderr)?;
    process.line(START_WITHIN, |line| line.contains("agent connected").then_some(())).await?;
    Ok(Receiver { kind: Kind::Split, address, processes: vec![process.drain(), agent.drain()] })
}

fn place(line: &str, name: &str) -> Option<SocketAddr> {
    line.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

fn server(
    database: &str,
    folder: &Path,
    job: &str,
    runs: &str,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let triggers = folder.join("triggers");
    fs::create_dir_all(&triggers)?;
    let trigger = format!(
        "[on.webhook]\nscheme = \"github\"\nsecret = {{ env = \"BENCH_SECRET\" }}\nevents = [\"push\"]\n\n\
         [job]\ncmd = \"{job}\"\nargs = [\"{runs}\", \"{{{{ body.sent }}}}\"]\n"
    );
    fs::write(triggers.join("bench.toml"), trigger)?;
    let any = || "127.0.0.1:0".to_owned();
    Ok(vec![
        ("DATABASE_URL", database.to_owned()),
        ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", triggers.display().to_string()),
        ("HETUFLOW_SERVER__SERVER__HTTP_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__HOOK_PORT", any()),
        ("BENCH_SECRET", payload::SECRET.to_owned()),
    ])
}

fn agent(folder: &Path, slots: u32) -> Vec<(&'static str, String)> {
    vec![
        ("HETUFLOW_AGENT__AGENT__ID", "bench".to_owned()),
        ("HETUFLOW_AGENT__AGENT__DATA_DIR", folder.join("agent").display().to_string()),
        ("HETUFLOW_AGENT__AGENT__MAX_CONCURRENT_TASKS", slots.to_string()),
    ]
}
