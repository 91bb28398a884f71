//! One server on SQLite and one agent that watches: started, killed, frozen, and the agent's memory of files replaced.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::witness;
use crate::{
    cable::Cable,
    node::{Addresses, Node, Program},
    state::Api,
};

const UP_WITHIN: Duration = Duration::from_mins(2);
const STOPPED_WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);

/// The file with which SQLite keeps what is newest, and its index.
const STATE: [&str; 3] = ["watch.db", "watch.db-wal", "watch.db-shm"];

pub(super) struct Place {
    folder: PathBuf,
    pub(super) server: Node,
    pub(super) agent: Node,
    at: Option<Addresses>,
    /// Where the server is; the agent dials the cable.
    servers: watch::Sender<Vec<Option<SocketAddr>>>,
    _cable: Cable,
    http: reqwest::Client,
}

impl Place {
    /// `keys` are more of what the trigger says about files.
    pub(super) async fn start(folder: &Path, binaries: &Path, keys: &str) -> anyhow::Result<Self> {
        for name in ["inbox", "triggers", "logs", "bin", "outside"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let job = crate::world::keep(&std::env::current_exe()?, folder)?;
        fs::write(folder.join("triggers/files.toml"), trigger(folder, &job, keys))?;
        let (servers, seen) = watch::channel(vec![None]);
        let cable = Cable::new(seen, 0).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let program = |name: &str, environment| -> anyhow::Result<Program> {
            let binary = crate::world::keep(&binaries.join(name), folder)?;
            let log = folder.join(format!("logs/{name}.log"));
            Ok(Program { name: name.to_owned(), binary, args: Vec::new(), environment, log })
        };
        let server = Node::new(program("hetuflow-server", of_server(folder))?);
        let agent = Node::new(program("hetuflow-agent", of_agent(folder, cable.address))?);
        let mut place =
            Self { folder: folder.to_owned(), server, agent, at: None, servers, _cable: cable, http };
        place.start_server().await?;
        place.agent.start(&[])?;
        place.until_watching().await?;
        Ok(place)
    }

    pub(super) async fn start_server(&mut self) -> anyhow::Result<()> {
        self.server.start(&[])?;
        self.at = self.server.addresses().await?;
        let at = self.at.with_context(|| "the server does not start")?;
        self.servers.send_replace(vec![Some(at.agents)]);
        Ok(())
    }

    pub(super) async fn kill_server(&mut self) -> anyhow::Result<()> {
        self.servers.send_replace(vec![None]);
        self.at = None;
        ensure!(self.server.kill().await?, "the server had ended");
        Ok(())
    }

    pub(super) fn api(&self) -> anyhow::Result<Api> {
        Ok(Api::new(&self.http, self.at.context("the server is down")?.api))
    }

    /// What is dropped from here on is new.
    async fn until_watching(&self) -> anyhow::Result<()> {
        let (until, mut number) = (Instant::now() + UP_WITHIN, 0);
        while witness::read(&self.folder)?.is_empty() {
            ensure!(Instant::now() < until, "no file is noticed");
            fs::write(self.folder.join(format!("inbox/warm-{number}.dat")), "warm")?;
            number += 1;
            sleep(LOOK * 3).await;
        }
        Ok(())
    }

    /// Of an agent that does not run.
    pub(super) fn copy_memory(&self, to: &str) -> anyhow::Result<()> {
        let (agent, to) = (self.folder.join("agent"), self.folder.join(to));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to)?;
        for name in STATE.iter().filter(|name| agent.join(name).exists()) {
            fs::copy(agent.join(name), to.join(name))?;
        }
        Ok(())
    }

    /// Of an agent that does not run. Without a copy, nothing is older than what there is.
    pub(super) fn restore_memory(&self, from: &str) -> anyhow::Result<()> {
        let (agent, from) = (self.folder.join("agent"), self.folder.join(from));
        if !from.exists() {
            return Ok(());
        }
        self.delete_memory()?;
        for name in STATE.iter().filter(|name| from.join(name).exists()) {
            fs::copy(from.join(name), agent.join(name))?;
        }
        Ok(())
    }

    /// Of an agent that does not run.
    pub(super) fn delete_memory(&self) -> anyhow::Result<()> {
        for path in STATE.map(|name| self.folder.join("agent").join(name)) {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        for node in [&mut self.agent, &mut self.server] {
            node.signal(Signal::TERM)?;
            let until = Instant::now() + STOPPED_WITHIN;
            while node.ended()?.is_none() {
                if Instant::now() > until {
                    bail!("{} does not stop", node.program.name);
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

/// The hardest setting: complete is what nobody writes to. A process whose agent was killed is repeated.
fn trigger(folder: &Path, job: &Path, keys: &str) -> String {
    let (here, job) = (folder.display(), job.display());
    format!(
        "[on.file]\npaths = [\"{here}/inbox/**/*.dat\"]\nsettle = \"0s\"\n{keys}\n\
         [job]\ncmd = \"{job}\"\nargs = [\"witness\"]\nenvironment = {{ {} = \"{here}\" }}\n\
         max_retries = 100\nretry_interval = \"200ms\"\nretry = {{ backoff = \"fixed\" }}\non_lost = \"retry\"\n",
        witness::FOLDER
    )
}

fn of_server(folder: &Path) -> Vec<(String, String)> {
    let set = |name: &str, value: String| (format!("HETUFLOW_SERVER__{name}"), value);
    let any = || "127.0.0.1:0".to_owned();
    vec![
        ("DATABASE_URL".to_owned(), format!("sqlite://{}", folder.join("hetuflow.db").display())),
        set("TRIGGERS__DIRECTORY", folder.join("triggers").display().to_string()),
        set("SERVER__HTTP_PORT", any()),
        set("SERVER__WEBSOCKET_PORT", any()),
        set("SERVER__HOOK_PORT", any()),
        set("AGENTS__HEARTBEAT", "1s".to_owned()),
        set("AGENTS__LEASE", "3s".to_owned()),
        set("AGENTS__RESUME", "15s".to_owned()),
    ]
}

fn of_agent(folder: &Path, server: SocketAddr) -> Vec<(String, String)> {
    let set = |name: &str, value: String| (format!("HETUFLOW_AGENT__AGENT__{name}"), value);
    vec![
        ("SERVER_URL".to_owned(), format!("ws://{server}")),
        set("ID", "agent".to_owned()),
        set("DATA_DIR", folder.join("agent").display().to_string()),
        set("MAX_CONCURRENT_TASKS", "8".to_owned()),
    ]
}
