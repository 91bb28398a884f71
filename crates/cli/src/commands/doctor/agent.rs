//! What an agent with this configuration would find.

use std::{path::Path, time::Duration};

use hetuflow_agent::Config;
use tokio::{net::TcpStream, time::timeout};

use super::{Finding, host};
use crate::commands::config::agent_config;

const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn look(file: &Path) -> Vec<Finding> {
    let what = file.display().to_string();
    let config = match agent_config(Some(file)) {
        Ok(config) => config,
        Err(error) => {
            return vec![Finding::bad(
                &what,
                error.to_string(),
                "`hetuflow config check --agent` says the same",
            )];
        }
    };
    let mut found = vec![Finding::good(&what, "it can be read")];
    found.push(host::disk("the agent's disk", &config.agent.data_dir));
    for server in config.server_urls() {
        found.push(server_at(&config, &server).await);
    }
    found.extend(config.files.roots.iter().map(|root| watched(root)));
    found
}

async fn server_at(config: &Config, url: &str) -> Finding {
    let what = format!("server {url}");
    let remedy = "start it, or correct [agent] server_url; the agent tries on by itself";
    let parsed = match reqwest::Url::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return Finding::bad(&what, error.to_string(), remedy),
    };
    let place =
        (parsed.host_str().unwrap_or_default().to_owned(), parsed.port_or_known_default().unwrap_or(80));
    let late = || Finding::warning(&what, format!("no answer within {} s", ANSWERS_WITHIN.as_secs()), remedy);
    let stream = match timeout(
        ANSWERS_WITHIN,
        TcpStream::connect((place.0.trim_matches(['[', ']']), place.1)),
    )
    .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Finding::warning(&what, error.to_string(), remedy),
        Err(_) => return late(),
    };
    if parsed.scheme() != "wss" {
        return Finding::good(&what, "it takes connections");
    }
    match timeout(ANSWERS_WITHIN, hetuflow_agent::look(config, &place.0, stream)).await {
        Ok(Ok(known)) => Finding::good(&what, known),
        Ok(Err(error)) => Finding::bad(&what, error.to_string(), "docs/agents.md says what to do"),
        Err(_) => late(),
    }
}

fn watched(root: &Path) -> Finding {
    let what = format!("root {}", root.display());
    if !root.is_dir() {
        return Finding::warning(&what, "it is no directory now", "make or mount it: the agent waits for it");
    }
    if hetuflow_watch::is_remote(root) {
        return Finding::good(&what, "on a network file system: the agent looks there every few seconds");
    }
    Finding::good(&what, "on a local disk: the system tells of its files at once")
}
