//! `hetuflow agent token` and `revoke`: who may be an agent.

use hetuflow_core::labels::Labels;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    args::TokenArgs,
    client::Client,
    commands::typed,
    error::CliError,
    output::{Output, pairs, plain, time},
};

#[derive(Debug, Deserialize)]
struct Made {
    token: String,
    expires_at: Timestamp,
    servers: Vec<String>,
}

pub(super) async fn make(client: &Client, output: Output, args: TokenArgs) -> Result<(), CliError> {
    let labels: Option<Labels> =
        Some(args.labels.into_iter().collect()).filter(|labels: &Labels| !labels.is_empty());
    let wanted = json!({ "labels": labels, "agent_id": args.agent, "expires": args.expires.as_secs() });
    let answer: Value = client.post("agent-tokens", &wanted).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let made: Made = typed(&answer)?;
    // Alone on standard output, so that it can be piped on.
    output.line(&made.token)?;
    let who = args.agent.map_or_else(|| "one agent".to_owned(), |agent| format!("the agent {agent}"));
    let has = match &labels {
        Some(labels) => format!("with the labels {} and no others", plain(&pairs(labels))),
        None => "with the labels of its own configuration".to_owned(),
    };
    output.note(&format!(
        "Good once, until {}, for {who} {has}; it is not shown again. It names {} by the server's key. \
         `hetuflow agent token --help` says where it goes.",
        time(made.expires_at),
        if made.servers.len() == 1 {
            "one server".to_owned()
        } else {
            format!("{} servers", made.servers.len())
        },
    ));
    Ok(())
}

pub(super) async fn revoke(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    let answer: Value = client.post(&format!("agents/{id}/revoke"), &json!({})).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    output.line(&format!(
        "The key of {id} counts no more; `hetuflow agent token --agent {id}` lets it join again."
    ))
}
