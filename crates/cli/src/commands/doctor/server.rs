//! What a server with this configuration would find.

use std::{error::Error as _, path::Path, time::Duration};

use hetuflow_core::{Clock, id::Namespace, trigger};
use hetuflow_server::{Config, Listeners, key_file, triggers::KnownSchemes, unresolved};
use hetuflow_trust::{Identity, IdentityError};
use serde_json::Value;

use super::{Finding, host};
use crate::{
    client::innermost,
    commands::{
        config::server_config,
        trigger::{files, read},
    },
};

/// A certificate that expires this soon is to be renewed.
const SOON: Duration = Duration::from_hours(14 * 24);

const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn look(file: &Path) -> Vec<Finding> {
    let what = file.display().to_string();
    let config = match server_config(file) {
        Ok(config) => config,
        Err(error) => {
            return vec![Finding::bad(&what, error.to_string(), "`hetuflow config check` says the same")];
        }
    };
    let mut found = vec![Finding::good(&what, "it can be read"), database(&config).await];
    if let Some(path) = sqlite(&config.database.url) {
        found.push(host::disk("the database's disk", Path::new(path).parent().unwrap_or(Path::new("."))));
    }
    found.push(listeners(&config).await);
    found.extend(tls(&config));
    let folder = config.triggers.directory.filter(|folder| !folder.as_os_str().is_empty());
    found.extend(folder.iter().flat_map(|folder| triggers(folder)));
    found
}

/// The file that a URL names.
fn sqlite(url: &str) -> Option<&str> {
    url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest))
}

async fn database(config: &Config) -> Finding {
    let what = "database";
    let options = hetuflow_store::Options { url: config.database.url.clone(), pool_size: 2 };
    match hetuflow_store::examine(&options).await {
        Ok(Some(version)) => Finding::good(what, version),
        Ok(None) => Finding::good(what, "it is made at the first start"),
        Err(error) => {
            let text = format!("{error}: {}", innermost(&error));
            let said = if error.source().is_some() { text } else { error.to_string() };
            Finding::bad(what, said, "no server starts with it")
        }
    }
}

/// Free, or taken by a server that answers.
async fn listeners(config: &Config) -> Finding {
    let what = "listeners";
    let Err(error) = Listeners::bind(config).await else {
        return Finding::good(what, "their addresses are free");
    };
    let url = format!("http://{}/api/v1/system/health", config.server.http_port);
    let asked = async { reqwest::get(url).await?.json::<Value>().await };
    match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
        Ok(Ok(health)) if health["status"] == "ok" => Finding::good(what, "a server runs here, and is well"),
        Ok(Ok(health)) if health["status"].is_string() => {
            Finding::warning(what, "a server runs here, and something is wrong with it", "`hetuflow health`")
        }
        Ok(_) | Err(_) => {
            Finding::bad(what, error.to_string(), "another address in [server], or end what has it")
        }
    }
}

/// The key by which agents of other machines know the server, where there may be some. None is made.
fn tls(config: &Config) -> Option<Finding> {
    let what = "key for agents";
    if config.server.websocket_port.socket_addr().ip().to_canonical().is_loopback() {
        return None;
    }
    let of_files = config.tls.certificate.as_ref().zip(config.tls.key.as_ref());
    let identity = match of_files {
        Some((certificate, key)) => Identity::of_files(certificate, key),
        None => Identity::existing(&key_file(config)),
    };
    Some(match identity {
        Ok(identity) if of_files.is_some() => expiry(what, &identity),
        Ok(identity) => Finding::good(what, identity.fingerprint().to_string()),
        Err(IdentityError::NoKey { .. }) if of_files.is_none() => {
            Finding::good(what, format!("it is made at the first start, {}", key_file(config).display()))
        }
        Err(error) => Finding::bad(
            what,
            error.to_string(),
            "[tls] says where the key is; docs/agents.md what it is for",
        ),
    })
}

/// Of a certificate that somebody else made.
fn expiry(what: &str, identity: &Identity) -> Finding {
    let left = identity.expires().and_then(|until| until.duration_since(Clock::system().now().into()).ok());
    match left {
        None => Finding::bad(what, "its certificate has expired", "renew it: agents refuse the server"),
        Some(left) if left < SOON => {
            let days = left.as_secs() / 86_400;
            Finding::warning(what, format!("its certificate expires in {days} days"), "renew it")
        }
        Some(_) => Finding::good(what, format!("a certificate, with the key {}", identity.fingerprint())),
    }
}

/// Every file that cannot be used, and every secret that is not there; or one word on all.
fn triggers(folder: &Path) -> Vec<Finding> {
    let files = match files(&[folder.to_owned()]) {
        Ok(files) => files,
        Err(error) => {
            return vec![Finding::warning("triggers", error.to_string(), "nothing is started by files then")];
        }
    };
    let (mut found, mut good) = (Vec::new(), 0);
    for file in &files {
        let what = file.display().to_string();
        let parsed = match read(file) {
            Ok((origin, name, text)) => {
                trigger::parse(&origin, &name, &Namespace::default(), &text, &KnownSchemes)
            }
            Err(error) => {
                found.push(Finding::bad(&what, error.to_string(), "make it readable for the server"));
                continue;
            }
        };
        let triggers = match parsed {
            Ok(triggers) => triggers,
            Err(problems) => {
                found.push(Finding::bad(
                    &what,
                    problems.to_string(),
                    "`hetuflow trigger check` says the same",
                ));
                continue;
            }
        };
        good += triggers.len();
        let secrets = triggers.iter().flat_map(|one| &one.webhooks).flat_map(|hook| &hook.secrets);
        for problem in secrets.filter_map(unresolved) {
            let remedy = "as far as this user and this environment can tell; the server's own may have it";
            found.push(Finding::warning(&what, problem, remedy));
        }
    }
    found.push(Finding::good("triggers", format!("{good} in {}", folder.display())));
    found
}
