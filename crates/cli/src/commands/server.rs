//! `hetuflow server ..`: the keys by which agents know servers.

use hetuflow_core::{agent::ServerKey, fingerprint::Fingerprint};
use reqwest::Method;
use serde_json::{Value, json};

use super::typed;
use crate::{
    args::ServerVerb,
    client::{Client, List},
    error::CliError,
    output::{Output, time},
};

pub(crate) async fn run(verb: ServerVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        ServerVerb::List => list(client, output).await,
        ServerVerb::Forget { key } => forget(client, output, key).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("servers", &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<ServerKey> = typed(&answer)?;
    let row = |server: &ServerKey| {
        vec![server.fingerprint.to_string(), time(server.first_seen_at), time(server.last_seen_at)]
    };
    output.table(
        &["KEY", "FIRST SEEN", "LAST SEEN"],
        list.items.iter().map(row).collect(),
        "No server has a key: none takes agents of other machines.",
    )
}

async fn forget(client: &Client, output: Output, key: Fingerprint) -> Result<(), CliError> {
    client.act(Method::DELETE, &format!("servers/{key}")).await?;
    if output.is_json() {
        return output.json(&json!({ "fingerprint": key }));
    }
    output.line(&format!("Agents are told no more of {key}."))
}
