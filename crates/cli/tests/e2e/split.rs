//! Server and agents apart, as on many machines: `hetuflow-server` and `hetuflow-agent`s with labels.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    link::Link,
    on_both,
    process::Process,
    world::{Database, Places, SECRET, World, http, on_push},
};

on_both! { each_job_runs_where_its_labels_match, a_stop_drains_and_exits_cleanly }

/// A world whose server and agents are processes of their own.
pub(crate) struct Split {
    pub(crate) world: World,
    pub(crate) link: Link,
    settings: Vec<(String, String)>,
    agents: BTreeMap<String, Process>,
}

impl Split {
    pub(crate) async fn start(database: Database, triggers: &[(&str, &str)]) -> Self {
        Self::with(database, triggers, &[]).await
    }

    /// With settings of the server: `("AGENTS__RESUME", "1s")`.
    pub(crate) async fn with(
        database: Database,
        triggers: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let database_url = database.url(dir.path()).await;
        fs::create_dir_all(dir.path().join("triggers")).expect("made");
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (server, places) = start_server(&dir, &database_url, &settings).await;
        let link = Link::to(places.agents).await;
        let world = World { dir, database_url, server, places, http: http() };
        world.add_triggers(triggers).await;
        Self { world, link, settings, agents: BTreeMap::new() }
    }

    /// On other ports: the old ones may be somebody else's by now. The agents notice nothing of that.
    pub(crate) async fn restart_server(&mut self) {
        let (server, places) = start_server(&self.world.dir, &self.world.database_url, &self.settings).await;
        (self.world.server, self.world.places) = (server, places);
        self.mend_link();
    }

    pub(crate) fn mend_link(&self) {
        self.link.plug_into(self.world.places.agents);
    }

    /// Starts an agent, and waits until the server says that it is online.
    pub(crate) async fn agent(&mut self, id: &str, labels: &[(&str, &str)]) {
        let data = self.agent_data(id);
        let mut environment = vec![
            ("HETUFLOW_AGENT__AGENT__ID".to_owned(), id.to_owned()),
            ("HETUFLOW_AGENT__AGENT__DATA_DIR".to_owned(), data.display().to_string()),
            ("SERVER_URL".to_owned(), format!("ws://{}", self.link.address)),
            ("HETUFLOW_AGENT__LOGGING__LEVEL".to_owned(), "info,hetuflow_agent=debug".to_owned()),
        ];
        for (key, value) in labels {
            environment
                .push((format!("HETUFLOW_AGENT__LABELS__{}", key.to_uppercase()), (*value).to_owned()));
        }
        let environment: Vec<(&str, String)> =
            environment.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        self.agents.insert(id.to_owned(), Process::start::<&str>("hetuflow-agent", &[], &environment));
        let online = async |world: &World| {
            (world.get(&format!("agents/{id}")).await["connection"] == "online").then_some(())
        };
        self.world.until(&format!("agent {id} is online"), online).await;
    }

    pub(crate) fn agent_data(&self, id: &str) -> PathBuf {
        self.world.dir.path().join(format!("agent-{id}"))
    }

    /// The first line that the agent said, or says, with this text.
    pub(crate) async fn agent_says(&mut self, id: &str, text: &str) {
        let agent = self.agents.get_mut(id).expect("it was started");
        agent.line(text, |line| line.contains(text).then_some(())).await;
    }

    pub(crate) async fn stop_agent(&mut self, id: &str) {
        let agent = self.agents.get_mut(id).expect("it was started");
        assert_eq!(agent.stop().await, Some(0), "{}", agent.said());
    }

    pub(crate) async fn kill_agent(&mut self, id: &str) {
        self.agents.get_mut(id).expect("it was started").kill().await;
    }
}

pub(crate) async fn start_server(
    dir: &tempfile::TempDir,
    database_url: &str,
    settings: &[(String, String)],
) -> (Process, Places) {
    let any = || "127.0.0.1:0".to_owned();
    let environment = [
        ("DATABASE_URL", database_url.to_owned()),
        ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", dir.path().join("triggers").display().to_string()),
        ("HETUFLOW_SERVER__SERVER__HTTP_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", any()),
        ("HETUFLOW_SERVER__SERVER__HOOK_PORT", any()),
        ("STORY_SECRET", SECRET.to_owned()),
    ];
    let names: Vec<String> = settings.iter().map(|(key, _)| format!("HETUFLOW_SERVER__{key}")).collect();
    let settings = names.iter().zip(settings).map(|(name, (_, value))| (name.as_str(), value.clone()));
    let environment: Vec<(&str, String)> = environment.into_iter().chain(settings).collect();
    let mut server = Process::start::<&str>("hetuflow-server", &[], &environment);
    let mut place = async |name: &'static str| -> std::net::SocketAddr {
        server
            .line(name, |line| {
                line.split_once(&format!("{name}="))?.1.split_whitespace().next()?.parse().ok()
            })
            .await
    };
    let api = place("api").await;
    let agents = place("agents").await;
    let hooks = place("hooks").await;
    (server, Places { api, agents, hooks })
}

async fn each_job_runs_where_its_labels_match(database: Database) {
    let job = |labels: &str| {
        on_push("echo \"$WANTED $(basename \"$HOME\")\" >> $DIR/effects", &format!("labels = {labels}"))
            .replace("$WANTED", labels.trim_matches(['{', '}', ' ']).split('"').nth(1).unwrap_or("any"))
    };
    let web = job("{ role = \"web\" }");
    let db = job("{ role = \"db\" }");
    let gpu = job("{ gpu = \"a100\" }");
    let mut split = Split::start(database, &[("web", &web), ("db", &db), ("gpu", &gpu)]).await;
    split.agent("one", &[("role", "web")]).await;
    split.agent("two", &[("role", "db")]).await;

    for (hook, agent) in [("web", "one"), ("db", "two")] {
        let answer = split.world.push(hook, "1", "{}").await;
        let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
        let task = split.world.task_until(&task, "succeeded").await;
        assert_eq!(task["instances"][0]["agent_id"], agent, "{task:#}");
    }

    let answer = split.world.push("gpu", "1", "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    let (_, shown, _) = split.world.cli(&["task", "show", &task]).await;
    assert!(shown.contains("pending") && shown.contains("gpu=a100"), "{shown}");
    split.agent("three", &[("gpu", "a100")]).await;
    let task = split.world.task_until(&task, "succeeded").await;
    assert_eq!(task["instances"][0]["agent_id"], "three");
}

async fn a_stop_drains_and_exits_cleanly(database: Database) {
    let mut split = Split::start(database, &[("deploy", &on_push("echo ran >> $DIR/effects", ""))]).await;
    split.agent("worker", &[]).await;
    let answer = split.world.push("deploy", "1", "{}").await;
    let task = answer.body["task_ids"][0].as_str().expect("one task").to_owned();
    split.world.task_until(&task, "succeeded").await;
    assert_eq!(split.world.server.stop().await, Some(0), "{}", split.world.server.said());
    let mut agent = split.agents.remove("worker").expect("it runs");
    assert_eq!(agent.stop().await, Some(0), "{}", agent.said());
}
