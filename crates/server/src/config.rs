//! `server.toml`: what it may say and how it is read. `config/server.toml` in the repository is
//! documentation, sample and lowest layer at once. The CLI reads it too, for `up` and `dev`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{
    config::{self, Layer, Setting},
    duration,
    id::{AgentId, Namespace},
    network::Network,
    size,
    trigger::Problems,
};
use serde::Deserialize;

use crate::secrets::SecretSource;

mod address;

pub use address::Address;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../../../config/server.toml");

const PREFIX: &str = "HETUFLOW_SERVER";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: ServerSection,
    pub tls: TlsSection,
    pub database: DatabaseSection,
    pub triggers: TriggersSection,
    pub agents: AgentsSection,
    pub scheduler: SchedulerSection,
    pub retention: RetentionSection,
    pub limits: Limits,
    pub hooks: HookLimits,
    /// What the process that embeds the server adds; no file says it.
    #[serde(skip)]
    pub embedded: Embedded,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSection {
    pub http_port: Address,
    pub websocket_port: Address,
    pub hook_port: Address,
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
}

/// Of the agents' listener, where it faces a network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// Where the key is kept that the server makes for itself.
    pub directory: PathBuf,
    /// In the place of that one, both or none.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    #[serde(default)]
    pub key: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    pub url: String,
    pub pool_size: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggersSection {
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentsSection {
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    #[serde(with = "duration")]
    pub lease: Duration,
    #[serde(with = "duration")]
    pub resume: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerSection {
    #[serde(with = "duration")]
    pub tick_interval: Duration,
}

/// Zero: for ever, or of any size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSection {
    #[serde(with = "duration")]
    pub events: Duration,
    #[serde(with = "duration")]
    pub tasks: Duration,
    #[serde(with = "duration")]
    pub output: Duration,
    #[serde(deserialize_with = "size::deserialize")]
    pub max_size: u64,
    /// What single namespaces keep for times of their own.
    #[serde(default)]
    pub namespaces: BTreeMap<Namespace, NamespaceRetention>,
}

/// What is left out is as for all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceRetention {
    #[serde(with = "duration::option")]
    pub events: Option<Duration>,
    #[serde(with = "duration::option")]
    pub tasks: Option<Duration>,
    #[serde(with = "duration::option")]
    pub output: Option<Duration>,
    #[serde(deserialize_with = "size::deserialize")]
    pub max_size: u64,
}

/// Of every listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_connections: usize,
    pub max_connections_per_prefix: usize,
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    #[serde(with = "duration")]
    pub answer_timeout: Duration,
    pub max_head_size: usize,
    pub max_head_lines: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookLimits {
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    #[serde(with = "duration")]
    pub body_grace: Duration,
    pub body_min_rate: u64,
    pub max_bytes_in_flight: u32,
    pub rate_per_second: u32,
    pub rate_burst: u32,
    pub trusted_proxies: Vec<Network>,
    pub proxy_header: ProxyHeader,
    /// What senders call before `/hooks/..`; empty where nobody signs addresses.
    pub public_url: String,
    /// By which published keys are fetched; empty: directly.
    pub key_proxy: String,
    /// Certificates that count beside those of the system when they are; empty: none.
    pub key_authorities: PathBuf,
    #[serde(with = "duration")]
    pub dedupe_for: Duration,
}

/// Where proxies write who is behind them. Only one, because a proxy passes the other on as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    XForwardedFor,
    Forwarded,
}

#[derive(Clone, Default)]
pub struct Embedded {
    /// Health waits for this agent and for the baselines of its file triggers.
    pub expect_agent: Option<AgentId>,
    /// Secrets by the names of variables that the process's environment lacks.
    pub make_secret: Option<SecretSource>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Problems(Problems),
}

impl Config {
    /// Defaults, then `file`, then `environment` (the process's own, read once by the caller).
    pub fn load(file: Option<&Path>, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::explain(file, environment).map(|(config, _)| config)
    }

    /// The same, with where each value comes from.
    pub fn explain(
        file: Option<&Path>,
        environment: &[(String, String)],
    ) -> Result<(Self, Vec<Setting>), ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let origin = file.map(|path| path.display().to_string());
        let layer = origin.as_ref().map(|origin| Layer { origin, text: &text });
        read_explained(layer, environment).map_err(ConfigError::Problems)
    }

    pub fn read(file: Option<Layer<'_>>, environment: &[(String, String)]) -> Result<Self, Problems> {
        read_explained(file, environment).map(|(config, _)| config)
    }
}

fn read_explained(
    file: Option<Layer<'_>>,
    environment: &[(String, String)],
) -> Result<(Config, Vec<Setting>), Problems> {
    let defaults = Layer { origin: "config/server.toml (defaults)", text: DEFAULTS };
    config::read_explained(defaults, file, PREFIX, &with_database_url(environment))
}

/// `DATABASE_URL` is another name of one key; the full name wins where both are set.
fn with_database_url(environment: &[(String, String)]) -> Vec<(String, String)> {
    const FULL: &str = "HETUFLOW_SERVER__DATABASE__URL";
    let mut environment = environment.to_vec();
    let short = environment.iter().find(|(name, _)| name == "DATABASE_URL").map(|(_, url)| url.clone());
    if let Some(url) = short
        && !environment.iter().any(|(name, _)| name == FULL)
    {
        environment.push((FULL.to_owned(), url));
    }
    environment
}

impl std::fmt::Debug for DatabaseSection {
    /// The URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSection").field("pool_size", &self.pool_size).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("expect_agent", &self.expect_agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_a_whole_configuration() {
        let config = Config::read(None, &[]).expect("the defaults parse");
        assert_eq!(config.server.http_port, Address::port(8080));
        assert_eq!(config.hooks.dedupe_for, Duration::from_hours(7 * 24));
        assert_eq!(config.retention.events, Duration::from_hours(30 * 24));
        assert_eq!(config.retention.max_size, 5 << 30);
        assert_eq!(config.triggers.directory, Some("triggers".into()));
    }

    #[test]
    fn file_and_environment_override() {
        let file = Layer { origin: "server.toml", text: "[server]\nhook_port = \"0.0.0.0:80\"\n" };
        let environment = [
            ("DATABASE_URL".to_owned(), "postgres://h/db".to_owned()),
            ("HETUFLOW_SERVER__DATABASE__POOL_SIZE".to_owned(), "3".to_owned()),
        ];
        let config = Config::read(Some(file), &environment).expect("it parses");
        assert_eq!(config.server.hook_port.socket_addr().to_string(), "0.0.0.0:80");
        assert_eq!(config.database.url, "postgres://h/db");
        assert_eq!(config.database.pool_size, 3);
    }

    #[test]
    fn a_namespace_says_what_it_keeps_differently() {
        let text = "[retention.namespaces.builds]\nevents = \"1d\"\nmax_size = \"2GiB\"\n";
        let config = Config::read(Some(Layer { origin: "server.toml", text }), &[]).expect("it parses");
        let builds = &config.retention.namespaces[&Namespace::new("builds").expect("a name")];
        assert_eq!((builds.events, builds.tasks), (Some(Duration::from_hours(24)), None));
        assert_eq!(builds.max_size, 2 << 30);
        let text = "[retention.namespaces.builds]\nevent = \"1d\"\n";
        let problems = Config::read(Some(Layer { origin: "server.toml", text }), &[]).expect_err("refused");
        assert!(problems.to_string().contains("server.toml:2:1"), "{problems}");
    }

    #[test]
    fn the_full_name_of_the_database_url_wins() {
        let environment = [
            ("DATABASE_URL".to_owned(), "postgres://h/a".to_owned()),
            ("HETUFLOW_SERVER__DATABASE__URL".to_owned(), "postgres://h/b".to_owned()),
        ];
        assert_eq!(Config::read(None, &environment).expect("it parses").database.url, "postgres://h/b");
    }
}
