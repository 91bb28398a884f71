//! The agent's configuration: `config/agent.toml`, which ships as documentation and is the lowest
//! layer, then the operator's file, then the environment. `hetuflow dev` and `up` build it in code.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{
    config::{self, Layer, Setting},
    id::AgentId,
    labels::Labels,
    trigger::Problems,
};
use serde::Deserialize;

mod token;

pub use token::TokenSource;

/// `config/agent.toml`, every key with its default and its meaning.
pub const SAMPLE: &str = include_str!("../../../config/agent.toml");

const PREFIX: &str = "HETUFLOW_AGENT";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub agent: Agent,
    pub labels: Labels,
    pub executor: Executor,
    pub files: Files,
    pub logging: Logging,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub id: Option<AgentId>,
    pub server_url: String,
    /// That stand in for the first.
    pub servers: Vec<String>,
    /// With which it joins, once.
    pub join_token: Option<TokenSource>,
    /// Authorities that sign for the names of servers; without them servers are known by their keys.
    pub ca: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub max_concurrent_tasks: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    pub work_dir: Option<PathBuf>,
    #[serde(with = "hetuflow_core::duration")]
    pub grace: Duration,
    #[serde(with = "hetuflow_core::duration")]
    pub drain_timeout: Duration,
    #[serde(with = "hetuflow_core::duration")]
    pub keep_work_dirs: Duration,
    pub max_output_size: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub base: Option<PathBuf>,
    /// Where triggers may watch; empty: anywhere.
    pub roots: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("[{section}] {key} = {value:?}: {allowed}")]
    Value { section: &'static str, key: &'static str, value: String, allowed: &'static str },
}

impl Config {
    /// Reads the layers. `environment` is passed in, because it is read once, at the edge.
    pub fn load(path: Option<&Path>, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::explain(path, environment).map(|(config, _)| config)
    }

    /// The same, with where each value comes from.
    pub fn explain(
        path: Option<&Path>,
        environment: &[(String, String)],
    ) -> Result<(Self, Vec<Setting>), ConfigError> {
        let file = match path {
            Some(path) => Some((path.display().to_string(), read(path)?)),
            None => None,
        };
        let file = file.as_ref().map(|(origin, text)| Layer { origin, text });
        let defaults = Layer { origin: "config/agent.toml (defaults)", text: SAMPLE };
        let (config, settings): (Self, _) =
            config::read_explained(defaults, file, PREFIX, &with_short_names(environment))?;
        config.check()?;
        Ok((config, settings))
    }

    /// The defaults for an agent that keeps its state in `data_dir` and dials `server_url`, for
    /// callers that start an agent in code.
    pub fn new(data_dir: impl Into<PathBuf>, server_url: impl Into<String>) -> Result<Self, ConfigError> {
        let mut config = Self::load(None, &[])?;
        config.agent.data_dir = data_dir.into();
        config.agent.server_url = server_url.into();
        config.check()?;
        Ok(config)
    }

    /// Every server that the agent may dial, in order, each once.
    #[must_use]
    pub fn server_urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = Vec::new();
        for url in std::iter::once(&self.agent.server_url).chain(&self.agent.servers) {
            if !urls.contains(url) {
                urls.push(url.clone());
            }
        }
        urls
    }

    /// Where the working directories of attempts are.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.executor.work_dir.clone().unwrap_or_else(|| self.agent.data_dir.join("work"))
    }

    /// Where relative globs of file triggers start.
    #[must_use]
    pub fn files_base(&self) -> PathBuf {
        self.files.base.clone().unwrap_or_else(|| self.agent.data_dir.clone())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let slots = self.agent.max_concurrent_tasks;
        if !(1..=1000).contains(&slots) {
            let allowed = "write a whole number from 1 to 1000";
            return Err(wrong("agent", "max_concurrent_tasks", slots.to_string(), allowed));
        }
        if let Some(relative) = self.files.roots.iter().find(|root| !root.is_absolute()) {
            let allowed = "write absolute paths";
            return Err(wrong("files", "roots", relative.display().to_string(), allowed));
        }
        check_url("server_url", &self.agent.server_url)?;
        self.agent.servers.iter().try_for_each(|url| check_url("servers", url))
    }
}

fn check_url(key: &'static str, url: &str) -> Result<(), ConfigError> {
    let host = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://")).unwrap_or_default();
    if host.is_empty() || host.starts_with(['/', ':']) || host.contains(char::is_whitespace) {
        let allowed = "write wss://HOST:PORT, or ws://127.0.0.1:PORT for a server on this machine";
        return Err(wrong("agent", key, url.to_owned(), allowed));
    }
    Ok(())
}

fn wrong(section: &'static str, key: &'static str, value: String, allowed: &'static str) -> ConfigError {
    ConfigError::Value { section, key, value, allowed }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// `SERVER_URL` is the guide's name for one key; the long name wins over it.
fn with_short_names(environment: &[(String, String)]) -> Vec<(String, String)> {
    const LONG: &str = "HETUFLOW_AGENT__AGENT__SERVER_URL";
    let mut pairs = environment.to_vec();
    if !pairs.iter().any(|(name, _)| name == LONG)
        && let Some((_, url)) = environment.iter().find(|(name, _)| name == "SERVER_URL")
    {
        pairs.push((LONG.to_owned(), url.clone()));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.toml");
        fs::write(&path, file).expect("written");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::load(Some(&path), &environment.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_sample_is_the_default() {
        let config = Config::load(None, &[]).expect("a configuration");
        assert_eq!(config.agent.server_url, "ws://127.0.0.1:8081");
        assert_eq!(config.agent.max_concurrent_tasks, 4);
        assert_eq!(config.work_dir(), Path::new("/var/lib/hetuflow/agent/work"));
        assert_eq!(config.executor.grace, Duration::from_secs(10));
        assert_eq!(config.logging.format, LogFormat::Text);
    }

    #[test]
    fn what_the_sample_shows_commented_out_is_accepted() {
        let shown: Vec<&str> = SAMPLE
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line))
            .collect();
        let config = load(&shown.join("\n"), &[]).expect("a configuration");
        assert_eq!(config.agent.id, AgentId::new("web-1").ok());
        assert_eq!(config.labels.len(), 2);
        assert_eq!(config.work_dir(), Path::new("/var/tmp/hetuflow"));
        assert_eq!(config.files_base(), Path::new("/srv/data"));
    }

    fn is_setting(line: &str) -> bool {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }

    #[test]
    fn the_environment_wins_and_the_long_name_over_the_short() {
        let file = "[agent]\nserver_url = \"ws://a:1\"\nmax_concurrent_tasks = 2\n";
        let check = |environment: &[(&str, &str)], url: &str, slots: u32| {
            let agent = load(file, environment).expect("a configuration").agent;
            assert_eq!(
                (agent.server_url.as_str(), agent.max_concurrent_tasks),
                (url, slots),
                "{environment:?}"
            );
        };
        check(&[], "ws://a:1", 2);
        check(&[("SERVER_URL", "ws://b:1")], "ws://b:1", 2);
        check(
            &[("SERVER_URL", "ws://b:1"), ("HETUFLOW_AGENT__AGENT__SERVER_URL", "ws://c:1")],
            "ws://c:1",
            2,
        );
        check(&[("HETUFLOW_AGENT__AGENT__MAX_CONCURRENT_TASKS", "9")], "ws://a:1", 9);
    }

    #[test]
    fn servers_are_dialled_in_their_order_each_once() {
        let file =
            "[agent]\nserver_url = \"ws://a:1\"\nservers = [\"ws://b:1\", \"ws://a:1\", \"ws://c:1\"]\n";
        let check = |environment: &[(&str, &str)], urls: &[&str]| {
            assert_eq!(load(file, environment).expect("a configuration").server_urls(), urls);
        };
        check(&[], &["ws://a:1", "ws://b:1", "ws://c:1"]);
        check(&[("SERVER_URL", "ws://c:1")], &["ws://c:1", "ws://b:1", "ws://a:1"]);
        check(&[("HETUFLOW_AGENT__AGENT__SERVERS", "[\"ws://d:1\"]")], &["ws://a:1", "ws://d:1"]);
    }

    #[test]
    fn wrong_values_say_what_is_allowed() {
        let check = |file: &str, part: &str| {
            let message = load(file, &[]).expect_err(file).to_string();
            assert!(message.contains(part), "{message}");
        };
        check("[agent]\nmax_concurrent_tasks = 0\n", "from 1 to 1000");
        check("[agent]\nserver_url = \"https://x\"\n", "ws://127.0.0.1:PORT");
        check("[agent]\nserver_url = \"wss://\"\n", "wss://HOST:PORT");
        check("[agent]\njoin_token = \"x\"\n", "no join token");
        check("[agent]\njoin_token = { path = \"x\" }\n", "unknown");
        check("[agent]\nservers = [\"ws://a:1\", \"http://b\"]\n", "servers = \"http://b\"");
        check("[agent]\nslots = 3\n", "slots");
        check("[executor]\ngrace = \"soon\"\n", "is not a duration");
        check("[agent]\nid = \"a/b\"\n", "is not a name");
    }
}
