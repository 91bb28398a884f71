//! The world of one run: a folder of its own, the trigger files, the processes of the product in their form, and the
//! cables between them. What happens to it is the business of [`crate::supervisor`].

mod triggers;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::sync::{Mutex, watch};

use crate::{
    cable::Cable,
    jobs::Source,
    node::{Addresses, Node, Program},
    postgres::Postgres,
    state::Api,
};

pub(crate) use triggers::SECRET;

/// How the product is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `hetuflow up`: everything in one process.
    Up,
    /// This many `hetuflow-server`s and two `hetuflow-agent`s.
    Split { servers: usize },
}

/// Which database holds the state.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite,
    Postgres(Postgres),
}

/// A namespace that keeps what it has for a time of its own: its share of the leader's work.
const CONFIG: &str = "[retention.namespaces.other]\nevents = \"1d\"\n";

/// How the servers are told to look after their agents. Seconds, because whole runs take minutes; a session without its
/// agent keeps its right for longer than faults in a row keep an agent away, unless they mean to.
const HEARTBEAT: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(3);
pub(crate) const RESUME: Duration = Duration::from_secs(15);

pub(crate) const AGENTS: [&str; 2] = ["agent-0", "agent-1"];

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) form: Form,
    pub(crate) database: Database,
    pub(crate) servers: Vec<Mutex<Node>>,
    pub(crate) agents: Vec<Mutex<Node>>,
    /// One for each agent.
    pub(crate) cables: Vec<Mutex<Cable>>,
    /// Where each server is now; none while it is down.
    pub(crate) places: watch::Sender<Vec<Option<Addresses>>>,
    for_agents: watch::Sender<Vec<Option<SocketAddr>>>,
    pub(crate) http: reqwest::Client,
}

impl World {
    /// Nothing runs yet. `binaries` are those under test.
    pub(crate) async fn new(
        folder: &Path,
        form: Form,
        database: Database,
        binaries: &Path,
        seed: u64,
    ) -> anyhow::Result<Arc<Self>> {
        for name in ["inbox", "triggers", "logs", "bin"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let url = match &database {
            Database::Sqlite => format!("sqlite://{}", folder.join("hetuflow.db").display()),
            Database::Postgres(postgres) => {
                postgres.create(&format!("chaos_{seed}_{}", std::process::id())).await?
            }
        };
        let count = match form {
            Form::Up => 1,
            Form::Split { servers } => servers,
        };
        let (places, _) = watch::channel(vec![None; count]);
        let (for_agents, servers_seen) = watch::channel(vec![None; count]);
        let mut world = Self {
            folder: folder.to_owned(),
            form,
            database,
            servers: Vec::new(),
            agents: Vec::new(),
            cables: Vec::new(),
            places,
            for_agents,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
        };
        let effect = keep(&std::env::current_exe()?, folder)?;
        triggers::write(folder, &effect)?;
        world.add_servers(count, binaries, &url)?;
        if let Form::Split { .. } = form {
            for (n, name) in AGENTS.into_iter().enumerate() {
                let cable = Cable::new(servers_seen.clone(), n).await?;
                world.add_agent(name, cable.address, binaries)?;
                world.cables.push(Mutex::new(cable));
            }
        }
        Ok(Arc::new(world))
    }

    fn add_servers(&mut self, count: usize, binaries: &Path, url: &str) -> anyhow::Result<()> {
        let name = if self.form == Form::Up { "hetuflow" } else { "hetuflow-server" };
        let binary = keep(&binaries.join(name), &self.folder)?;
        for n in 0..count {
            let mut environment = self.environment_of_servers(url, count);
            let config = self.folder.join("server.toml");
            std::fs::write(&config, CONFIG)?;
            let mut args = vec!["--config".into(), config.into()];
            if self.form == Form::Up {
                environment.extend(self.environment_of_agent(AGENTS[0]));
                args.insert(0, "up".into());
            }
            let name = format!("server-{n}");
            let log = self.folder.join(format!("logs/{name}.log"));
            let program = Program { name, binary: binary.clone(), args, environment, log };
            self.servers.push(Mutex::new(Node::new(program)));
        }
        Ok(())
    }

    fn environment_of_servers(&self, url: &str, count: usize) -> Vec<(String, String)> {
        let set = |name: &str, value: &str| (format!("HETUFLOW_SERVER__{name}"), value.to_owned());
        let triggers = self.folder.join("triggers").display().to_string();
        vec![
            ("DATABASE_URL".to_owned(), url.to_owned()),
            ("CHAOS_SECRET".to_owned(), SECRET.to_owned()),
            ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
            // Servers that share a database share no folder.
            set("TRIGGERS__DIRECTORY", if count > 1 { "" } else { &triggers }),
            set("SERVER__HTTP_PORT", "127.0.0.1:0"),
            set("SERVER__WEBSOCKET_PORT", "127.0.0.1:0"),
            set("SERVER__HOOK_PORT", "127.0.0.1:0"),
            set("AGENTS__HEARTBEAT", &seconds(HEARTBEAT)),
            set("AGENTS__LEASE", &seconds(LEASE)),
            set("AGENTS__RESUME", &seconds(RESUME)),
        ]
    }

    fn add_agent(&mut self, name: &str, server: SocketAddr, binaries: &Path) -> anyhow::Result<()> {
        let mut environment = self.environment_of_agent(name);
        environment.push(("SERVER_URL".to_owned(), format!("ws://{server}")));
        let binary = keep(&binaries.join("hetuflow-agent"), &self.folder)?;
        let log = self.folder.join(format!("logs/{name}.log"));
        let program = Program { name: name.to_owned(), binary, args: Vec::new(), environment, log };
        self.agents.push(Mutex::new(Node::new(program)));
        Ok(())
    }

    fn environment_of_agent(&self, name: &str) -> Vec<(String, String)> {
        let set = |key: &str, value: &str| (format!("HETUFLOW_AGENT__{key}"), value.to_owned());
        let data = self.folder.join(name).display().to_string();
        let mut environment = vec![
            set("AGENT__ID", name),
            set("AGENT__DATA_DIR", &data),
            set("AGENT__MAX_CONCURRENT_TASKS", "8"),
        ];
        // One of them watches the folder: two would each report every file.
        environment.extend((name == AGENTS[0]).then(|| set("LABELS__WATCHES", "yes")));
        environment
    }

    /// Starts a server and says where it is; false when it ended before it listened.
    pub(crate) async fn start_server(&self, n: usize, more: &[(String, String)]) -> anyhow::Result<bool> {
        let mut node = self.servers[n].lock().await;
        node.start(more)?;
        let found = node.addresses().await?;
        self.place(n, found);
        Ok(found.is_some())
    }

    pub(crate) fn place(&self, n: usize, found: Option<Addresses>) {
        self.places.send_modify(|places| places[n] = found);
        self.for_agents.send_modify(|places| places[n] = found.map(|found| found.agents));
    }

    /// The API of the first server that is up.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        let place = self.places.borrow().iter().flatten().next().copied();
        place.map(|place| Api::new(&self.http, place.api)).context("no server is up")
    }

    /// The triggers reach several servers through the API, one through its folder.
    pub(crate) async fn apply_triggers(&self) -> anyhow::Result<()> {
        if self.servers.len() > 1 {
            triggers::apply(&self.folder, &self.api()?).await?;
        }
        Ok(())
    }

    /// Nothing of this source is wanted any more: no schedule fires, or every daemon is asked to end.
    pub(crate) async fn remove_triggers(&self, source: Source) -> anyhow::Result<()> {
        triggers::remove(source, &self.folder, &self.api()?, self.servers.len() > 1).await
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

/// A link to the binary in the run's own folder, so that a build meanwhile does not replace what is under test.
pub(crate) fn keep(binary: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let name = binary.file_name().context("a binary has a name")?;
    let kept = folder.join("bin").join(name);
    if !kept.exists() && std::fs::hard_link(binary, &kept).is_err() {
        std::fs::copy(binary, &kept).with_context(|| format!("{} is not built", binary.display()))?;
    }
    Ok(kept)
}
