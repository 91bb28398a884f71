//! The world of one story: a data directory, a triggers folder, the running product, and what came of it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};
use tempfile::TempDir;

use crate::process::{PATIENCE, Process};

pub(crate) const SECRET: &str = "the secret of this story";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

pub(crate) struct World {
    pub dir: TempDir,
    pub database_url: String,
    /// `hetuflow dev`, or `hetuflow-server` in a split world.
    pub server: Process,
    pub places: Places,
    pub http: reqwest::Client,
}

/// Where the product listens.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub api: SocketAddr,
    pub agents: SocketAddr,
    pub hooks: SocketAddr,
}

/// What a hook answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A server-sent event.
#[derive(Debug)]
pub(crate) struct Said {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

impl Said {
    fn of(text: &str) -> Self {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        let data = serde_json::from_str(&field("data").expect("data")).expect("JSON");
        Self { name: field("event").unwrap_or_default(), id: field("id"), data }
    }
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let body = serde_json::from_str(&response.text().await.expect("a body")).unwrap_or(Value::Null);
        Self { status, body }
    }
}

impl World {
    /// `hetuflow dev` with these trigger files, once it says that it is ready.
    pub(crate) async fn dev(database: Database, triggers: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let database_url = database.url(dir.path()).await;
        fs::create_dir_all(dir.path().join("triggers")).expect("made");
        for (name, text) in triggers {
            write_trigger(dir.path(), name, text);
        }
        let (server, places) = start_dev(dir.path(), &database_url).await;
        Self { dir, database_url, server, places, http: http() }
    }

    /// Starts `hetuflow dev` again on the same data, on ports of its own: the old ones may be somebody else's by now.
    pub(crate) async fn restart(&mut self) {
        let (server, places) = start_dev(self.dir.path(), &self.database_url).await;
        (self.server, self.places) = (server, places);
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn write_trigger(&self, name: &str, text: &str) {
        write_trigger(self.dir.path(), name, text);
    }

    /// New ones, which are live when it returns.
    pub(crate) async fn add_triggers(&self, triggers: &[(&str, &str)]) {
        for (name, text) in triggers {
            self.write_trigger(name, text);
            let live = async |world: &World| {
                (world.get(&format!("triggers/{name}")).await["revision"] == 1).then_some(())
            };
            self.until("the trigger is live", live).await;
        }
    }

    pub(crate) fn remove_trigger(&self, name: &str) {
        fs::remove_file(self.dir.path().join(format!("triggers/{name}.toml"))).expect("it was there");
    }

    /// The lines that jobs appended to the file `effects`.
    pub(crate) fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn effects_until(&self, count: usize) -> Vec<String> {
        self.until(&format!("{count} effects"), async |world| {
            let effects = world.effects();
            (effects.len() >= count).then_some(effects)
        })
        .await
    }

    /// A GitHub delivery, signed with [`SECRET`].
    pub(crate) async fn push(&self, hook: &str, delivery: &str, body: &str) -> Answer {
        self.post_hook(hook, delivery, body, &github_signature(SECRET, body.as_bytes())).await
    }

    /// The same; nothing when the server dies over it.
    pub(crate) async fn try_push(&self, hook: &str, delivery: &str, body: &str) -> Option<Answer> {
        let url = format!("http://{}/hooks/{hook}", self.places.hooks);
        let request = self.request(url, delivery, body, &github_signature(SECRET, body.as_bytes()));
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let body = serde_json::from_str(&response.text().await.ok()?).ok()?;
        Some(Answer { status, body })
    }

    pub(crate) async fn post_hook(&self, hook: &str, delivery: &str, body: &str, signature: &str) -> Answer {
        let url = format!("http://{}/hooks/{hook}", self.places.hooks);
        Answer::of(self.delivery(url, delivery, body, signature).await).await
    }

    /// The same, and waits for its end; also yields where its status is.
    pub(crate) async fn push_and_wait(
        &self,
        hook: &str,
        delivery: &str,
        body: &str,
    ) -> (Answer, Option<String>) {
        let url = format!("http://{}/hooks/{hook}?wait=60", self.places.hooks);
        let response = self.delivery(url, delivery, body, &github_signature(SECRET, body.as_bytes())).await;
        let location = response.headers().get("location");
        let location = location.map(|value| value.to_str().expect("text").to_owned());
        (Answer::of(response).await, location)
    }

    /// The events of a status, up to the last.
    pub(crate) async fn follow(&self, location: &str, after: Option<&str>) -> Vec<Said> {
        let request = self.http.get(format!("http://{}{location}", self.places.hooks));
        let request = request.header("Accept", "text/event-stream");
        let request = after.iter().fold(request, |request, id| request.header("Last-Event-ID", *id));
        let text = request.send().await.expect("an answer").text().await.expect("it ends");
        text.split("\n\n").filter(|part| part.contains("data:")).map(Said::of).collect()
    }

    async fn delivery(&self, url: String, delivery: &str, body: &str, signature: &str) -> reqwest::Response {
        let request = self.request(url, delivery, body, signature);
        request.send().await.expect("the hook listener answers")
    }

    fn request(&self, url: String, delivery: &str, body: &str, signature: &str) -> reqwest::RequestBuilder {
        self.http
            .post(url)
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", delivery)
            .header("X-Hub-Signature-256", signature)
            .header("Content-Type", "application/json")
            .body(body.to_owned())
    }

    /// `GET /api/v1/{path}`; the body of whatever status.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.places.api);
        let response = self.http.get(url).send().await.expect("the API answers");
        serde_json::from_str(&response.text().await.expect("a body")).expect("JSON")
    }

    pub(crate) async fn tasks(&self) -> Vec<Value> {
        self.get("tasks?limit=500").await["items"].as_array().cloned().unwrap_or_default()
    }

    /// The task once it has this status.
    pub(crate) async fn task_until(&self, id: &str, status: &str) -> Value {
        self.until(&format!("task {id} {status}"), async |world| {
            let task = world.get(&format!("tasks/{id}")).await;
            (task["status"] == status).then_some(task)
        })
        .await
    }

    /// Looks at the state until it is as wanted; fails the story when that takes beyond all patience.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn(&Self) -> Option<T>) -> T {
        let search = async {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            loop {
                if let Some(found) = look(self).await {
                    return found;
                }
                pause.tick().await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, search).await else {
            panic!("it never came to: {what}\ntasks: {:#?}\n{}", self.tasks().await, self.server.said())
        };
        found
    }

    /// The `hetuflow` command against this world.
    pub(crate) async fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let server = format!("http://{}", self.places.api);
        let all: Vec<&str> = ["--server", &server].into_iter().chain(args.iter().copied()).collect();
        crate::process::run("hetuflow", &all).await
    }
}

impl Database {
    /// A database of this story alone.
    pub(crate) async fn url(self, dir: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", dir.join("hetuflow.db").display()),
            Self::Postgres => fresh_postgres().await,
        }
    }
}

/// A new database on the throw-away PostgreSQL of `cargo xtask test`.
async fn fresh_postgres() -> String {
    let server = std::env::var("HETUFLOW_TEST_POSTGRES")
        .expect("run `cargo xtask test`, which starts a throw-away PostgreSQL");
    let name = format!("story_{}", uuid::Uuid::new_v4().simple());
    let options: PgConnectOptions = server.parse().expect("the URL of a PostgreSQL");
    let mut connection = options.connect().await.expect("PostgreSQL answers");
    connection.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await.expect("a new database");
    server.replacen("/postgres?", &format!("/{name}?"), 1)
}

pub(crate) fn github_signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A trigger on a GitHub push that runs a shell script; `more` goes below `[job]`.
pub(crate) fn on_push(script: &str, more: &str) -> String {
    format!(
        "[on.webhook]\nscheme = \"github\"\nsecret = {{ env = \"STORY_SECRET\" }}\nevents = [\"push\"]\n\n\
         [job]\ncmd = \"sh\"\nargs = [\"-c\", '''{script}''']\n{more}\n"
    )
}

async fn start_dev(dir: &Path, database_url: &str) -> (Process, Places) {
    let any = || "127.0.0.1:0".to_owned();
    let path = |name: &str| dir.join(name).display().to_string();
    let args = [
        "dev".to_owned(),
        "--data-dir".to_owned(),
        path("data"),
        "--triggers".to_owned(),
        path("triggers"),
        "--http".to_owned(),
        any(),
        "--agents".to_owned(),
        any(),
        "--hooks".to_owned(),
        any(),
        "--database".to_owned(),
        database_url.to_owned(),
    ];
    let mut server = Process::start("hetuflow", &args, &[("STORY_SECRET", SECRET.to_owned())]);
    let mut place = async |name: &'static str, scheme: &'static str| -> SocketAddr {
        server
            .line(name, |line| {
                let rest = line.trim_start().strip_prefix(name)?.trim_start().strip_prefix(scheme)?;
                rest.split('/').next()?.parse().ok()
            })
            .await
    };
    let api = place("API", "http://").await;
    let agents = place("agents", "ws://").await;
    let hooks = place("webhooks", "http://").await;
    (server, Places { api, agents, hooks })
}

fn write_trigger(dir: &Path, name: &str, text: &str) {
    // Renamed into place, as an editor does, so that no half-written file is ever read.
    let file = dir.join(format!("triggers/{name}.toml"));
    let fresh = dir.join(format!("{name}.new"));
    fs::write(&fresh, text.replace("$DIR", &dir.display().to_string())).expect("written");
    fs::rename(fresh, file).expect("renamed");
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
