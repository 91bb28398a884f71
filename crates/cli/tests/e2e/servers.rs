//! Two servers on one PostgreSQL, agents spread over them: servers are killed, restarted one after the other under
//! load, and frozen. Every accepted event's job runs exactly once.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::{
    link::Link,
    process::{PATIENCE, Process},
    split::start_server,
    world::{Database, Places, SECRET, github_signature, http, on_push},
};

/// One server. Agents and senders know the addresses of its links, which outlive it.
struct Server {
    process: Process,
    places: Places,
    agents: Link,
    hooks: Link,
}

struct Servers {
    dir: TempDir,
    database_url: String,
    both: [Server; 2],
    agents: Vec<Process>,
    http: reqwest::Client,
}

const A: usize = 0;
const B: usize = 1;

impl Servers {
    /// Two servers with one trigger, and an agent on each that knows the other one too.
    async fn start(job: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let database_url = Database::Postgres.url(dir.path()).await;
        let both = [Server::start(&dir, &database_url).await, Server::start(&dir, &database_url).await];
        let mut servers = Self { dir, database_url, both, agents: Vec::new(), http: http() };
        servers.apply("deploy", job).await;
        servers.agent("one", A).await;
        servers.agent("two", B).await;
        servers
    }

    async fn apply(&self, name: &str, text: &str) {
        let file = self.dir.path().join(format!("{name}.toml"));
        fs::write(&file, text.replace("$DIR", &self.dir.path().display().to_string())).expect("written");
        let (api, file) = (format!("http://{}", self.both[A].places.api), file.display().to_string());
        let (code, said, error) =
            crate::process::run("hetuflow", &["--server", &api, "trigger", "apply", &file]).await;
        assert_eq!(code, Some(0), "{said}{error}");
        for n in [A, B] {
            let path = format!("triggers/{name}");
            self.until(n, &path, "the trigger is live", |trigger| trigger["revision"] == 1).await;
        }
    }

    async fn agent(&mut self, id: &str, home: usize) {
        let url = |n: usize| format!("ws://{}", self.both[n].agents.address);
        let environment = [
            ("HETUFLOW_AGENT__AGENT__ID", id.to_owned()),
            ("HETUFLOW_AGENT__AGENT__DATA_DIR", self.dir.path().join(id).display().to_string()),
            ("SERVER_URL", url(home)),
            ("HETUFLOW_AGENT__AGENT__SERVERS", format!("[\"{}\"]", url(1 - home))),
        ];
        self.agents.push(Process::start::<&str>("hetuflow-agent", &[], &environment));
        self.until(home, &format!("agents/{id}"), "it is online", |agent| agent["connection"] == "online")
            .await;
    }

    async fn get(&self, n: usize, path: &str) -> Value {
        self.look(n, path).await.expect("the API answers")
    }

    /// `None`: the server closed the connection just now, as it does after it was frozen.
    async fn look(&self, n: usize, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.both[n].places.api);
        let response = self.http.get(url).send().await.ok()?;
        serde_json::from_str(&response.text().await.ok()?).ok()
    }

    async fn until(&self, n: usize, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            let mut pause = tokio::time::interval(Duration::from_millis(50));
            loop {
                if let Some(seen) = self.look(n, path).await.filter(|seen| is(seen)) {
                    return seen;
                }
                pause.tick().await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, look).await else {
            panic!(
                "{path} never came to: {what}\n{:#?}\n{}",
                self.look(n, path).await,
                self.both[n].process.said()
            )
        };
        found
    }

    async fn until_it_leads(&self, n: usize) -> i64 {
        let health =
            self.until(n, "system/health", "it leads", |health| health["leader"]["this_server"] == true);
        health.await["leader"]["epoch"].as_i64().expect("an epoch")
    }

    fn hooks(&self) -> [SocketAddr; 2] {
        [self.both[A].hooks.address, self.both[B].hooks.address]
    }

    async fn restart(&mut self, n: usize) {
        let server = &mut self.both[n];
        assert_eq!(server.process.stop().await, Some(0), "{}", server.process.said());
        server.agents.cut();
        server.hooks.cut();
        let (process, places) = start_server(&self.dir, &self.database_url, &no_folder()).await;
        server.agents.plug_into(places.agents);
        server.hooks.plug_into(places.hooks);
        (server.process, server.places) = (process, places);
        self.until(n, "system/health", "it is healthy", |health| health["status"] == "ok").await;
    }

    /// Without any farewell.
    async fn kill(&mut self, n: usize) {
        let server = &mut self.both[n];
        server.process.kill().await;
        server.agents.cut();
        server.hooks.cut();
    }

    fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Server {
    async fn start(dir: &TempDir, database_url: &str) -> Self {
        let (process, places) = start_server(dir, database_url, &no_folder()).await;
        let (agents, hooks) = (Link::to(places.agents).await, Link::to(places.hooks).await);
        Self { process, places, agents, hooks }
    }
}

/// Servers that share a database load no folder.
fn no_folder() -> [(String, String); 1] {
    [("TRIGGERS__DIRECTORY".to_owned(), String::new())]
}

/// Delivers until one of the servers has accepted it: always with the same id, as senders do. Yields the event.
async fn deliver(http: &reqwest::Client, hooks: [SocketAddr; 2], delivery: &str) -> String {
    let mut pause = tokio::time::interval(Duration::from_millis(100));
    let mut servers = hooks.iter().cycle().skip(delivery.len() % 2);
    loop {
        let request = http
            .post(format!("http://{}/hooks/deploy", servers.next().expect("two servers")))
            .timeout(Duration::from_secs(10))
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", delivery)
            .header("X-Hub-Signature-256", github_signature(SECRET, b"{}"))
            .header("Content-Type", "application/json")
            .body("{}");
        if let Ok(response) = request.send().await {
            let status = response.status().as_u16();
            assert!(matches!(status, 200 | 202 | 503), "a sender would give up: {status}");
            let body = response.json::<Value>().await.unwrap_or_default();
            // An answer that was cut off is as good as none.
            if let (200 | 202, Some(event)) = (status, body["event_id"].as_str()) {
                return event.to_owned();
            }
        }
        pause.tick().await;
    }
}

/// Senders that go on while servers come and go.
struct Load {
    accepted: watch::Receiver<usize>,
    events: Arc<Mutex<Vec<String>>>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Load {
    /// A delivery every 40 ms, through either server in turn.
    fn start(http: &reqwest::Client, hooks: [SocketAddr; 2]) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (count, accepted) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let (http, collected) = (http.clone(), Arc::clone(&events));
        let running = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(40));
            let mut senders = tokio::task::JoinSet::new();
            for n in 0.. {
                if *stopped.borrow() {
                    break;
                }
                pace.tick().await;
                let (http, collected, count) = (http.clone(), Arc::clone(&collected), count.clone());
                let hooks = if n % 2 == 0 { hooks } else { [hooks[B], hooks[A]] };
                senders.spawn(async move {
                    let event = deliver(&http, hooks, &format!("delivery-{n}")).await;
                    collected.lock().expect("not poisoned").push(event);
                    count.send_modify(|count| *count += 1);
                });
            }
            while let Some(sent) = senders.join_next().await {
                sent.expect("a sender does not fail");
            }
        });
        Self { accepted, events, stop, running }
    }

    /// Goes on for so many more.
    async fn pass(&mut self, more: usize) {
        let goal = *self.accepted.borrow() + more;
        let wait = self.accepted.wait_for(|count| *count >= goal);
        tokio::time::timeout(PATIENCE, wait).await.expect("the load passes").expect("it goes on");
    }

    async fn end(self) -> Vec<String> {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("everything is accepted")
            .expect("no panic");
        std::mem::take(&mut *self.events.lock().expect("not poisoned"))
    }
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_and_doubles_nothing() {
    let mut servers = Servers::start(&on_push("echo \"$HETUFLOW_EVENT_ID\" >> $DIR/effects", "")).await;
    let mut load = Load::start(&servers.http, servers.hooks());
    load.pass(20).await;
    for n in [A, B] {
        servers.restart(n).await;
        load.pass(20).await;
    }
    let mut accepted = load.end().await;

    let ended = |task: &Value| task["status"] == "succeeded";
    let all = |tasks: &Value| tasks["items"].as_array().is_some_and(|items| items.iter().all(ended));
    servers
        .until(A, "tasks?limit=500&status=1,2,5,8,10", "nothing waits or runs", |tasks| {
            tasks["items"].as_array().is_some_and(Vec::is_empty)
        })
        .await;
    assert!(all(&servers.get(B, "tasks?limit=500").await), "every one of them has succeeded");
    let mut effects = servers.effects();
    accepted.sort();
    effects.sort();
    assert_eq!(effects, accepted, "each accepted event ran once");
}

/// Says that it runs, then waits for `go`.
const WAITS: &str = "echo \"$HETUFLOW_TASK_ID\" >> $DIR/effects; while [ ! -e $DIR/go ]; do sleep 0.05; done";

/// Pushes through this server only, and returns the task once its process runs.
async fn running(servers: &Servers, n: usize, delivery: &str) -> String {
    let before = servers.effects().len();
    let hooks = servers.both[n].hooks.address;
    let event = deliver(&servers.http, [hooks, hooks], delivery).await;
    let shown = servers.get(n, &format!("events/{event}")).await;
    let task = shown["tasks"][0]["id"].as_str().expect("one task").to_owned();
    servers.until(n, &format!("tasks/{task}"), "it runs", |task| task["status"] == "running").await;
    assert_eq!(servers.effects().len(), before + 1);
    task
}

#[tokio::test]
async fn an_agent_whose_server_is_killed_goes_on_at_the_other() {
    let mut servers = Servers::start(&on_push(WAITS, "labels = { }")).await;
    let epoch = servers.until_it_leads(A).await;
    // Both agents are busy then.
    let tasks = [running(&servers, A, "1").await, running(&servers, B, "2").await];
    servers.kill(A).await;
    fs::write(servers.dir.path().join("go"), "").expect("written");
    for task in &tasks {
        let task =
            servers.until(B, &format!("tasks/{task}"), "it ends", |task| task["status"] == "succeeded").await;
        assert_eq!(task["attempt"], 1, "{task:#}");
    }
    let mut effects = servers.effects();
    effects.sort();
    assert_eq!(effects, tasks);
    assert!(servers.until_it_leads(B).await > epoch, "another term");
}

#[tokio::test]
async fn a_leader_that_was_frozen_takes_nothing_back() {
    let servers = Servers::start(&on_push(WAITS, "")).await;
    let epoch = servers.until_it_leads(A).await;
    let task = running(&servers, B, "1").await;
    let pid = servers.both[A].process.id();
    crate::process::signal(pid, "STOP");
    let next = servers.until_it_leads(B).await;
    assert!(next > epoch);
    crate::process::signal(pid, "CONT");
    let health = servers.until(A, "system/health", "it has seen that another leads", |health| {
        health["leader"]["this_server"] == false
    });
    assert_eq!(health.await["leader"]["epoch"], next);

    fs::write(servers.dir.path().join("go"), "").expect("written");
    let task =
        servers.until(A, &format!("tasks/{task}"), "it ends", |task| task["status"] == "succeeded").await;
    assert_eq!(task["attempt"], 1);
    assert_eq!(servers.until_it_leads(B).await, next, "its term was never broken");
    assert_eq!(servers.effects().len(), 1);
}
