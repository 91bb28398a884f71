//! `hetuflow agent ..`

use hetuflow_core::{
    agent::{Agent, Connection},
    protocol::{WatchHealth, WatchState},
};
use serde_json::Value;

use super::typed;
use crate::{
    args::AgentVerb,
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, pairs, plain, time},
};

pub(crate) async fn run(verb: AgentVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        AgentVerb::List => list(client, output).await,
        AgentVerb::Show { id } => show(client, output, id.as_str()).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("agents", &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<Agent> = typed(&answer)?;
    let rows = list
        .items
        .iter()
        .map(|agent| {
            vec![
                agent.id.to_string(),
                connection(output, agent.connection),
                format!("{}/{}", agent.running, agent.slots),
                plain(&pairs(&agent.labels)),
                plain(&agent.hostname),
                agent.version.clone(),
                time(agent.last_seen_at),
            ]
        })
        .collect();
    let heads = ["AGENT", "STATE", "RUNNING", "LABELS", "HOST", "VERSION", "LAST SEEN"];
    output.table(&heads, rows, "No agent has connected yet. Start one with `hetuflow-agent`.")
}

async fn show(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("agents/{id}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let agent: Agent = typed(&answer)?;
    output.fields(&[
        ("agent", agent.id.to_string()),
        ("state", connection(output, agent.connection)),
        ("running", format!("{} of {} slots", agent.running, agent.slots)),
        ("labels", plain(&pairs(&agent.labels))),
        ("host", plain(&agent.hostname)),
        ("version", agent.version.clone()),
        ("first seen", time(agent.first_seen_at)),
        ("last seen", time(agent.last_seen_at)),
    ])?;
    watches(output, answer.get("watches").and_then(Value::as_array).map_or(&[], Vec::as_slice))
}

fn watches(output: Output, watches: &[Value]) -> Result<(), CliError> {
    for watch in watches {
        let watch: WatchState = typed(watch)?;
        let tone = match watch.health {
            WatchHealth::Live => Tone::Good,
            WatchHealth::Polling => Tone::Busy,
            WatchHealth::Degraded | WatchHealth::Offline | WatchHealth::Hanging | WatchHealth::Refused => {
                Tone::Bad
            }
        };
        let counts = [
            (watch.tracked, "tracked"),
            (watch.settling, "settling"),
            (watch.stuck, "stuck"),
            (watch.hashing, "being hashed"),
            (watch.rejected, "rejected"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .enumerate()
            .filter(|(place, (count, _))| *place == 0 || *count > 0)
            .map(|(_, (count, name))| format!("{count} {name}"))
            .collect();
        let scan = watch
            .last_scan
            .map_or_else(|| "no full look yet".to_owned(), |at| format!("looked at {}", time(at)));
        let health = output.tone(watch.health.name(), tone);
        output.line(&format!("watches {}: {health}, {}, {scan}", plain(&watch.key), counts.join(", ")))?;
        if let Some(problem) = &watch.problem {
            output.line(&format!("  {}", output.tone(&plain(problem), Tone::Bad)))?;
        }
    }
    Ok(())
}

fn connection(output: Output, connection: Connection) -> String {
    match connection {
        Connection::Online => output.tone("online", Tone::Good),
        Connection::Offline => output.tone("offline", Tone::Bad),
    }
}
