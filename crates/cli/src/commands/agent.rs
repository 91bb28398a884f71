//! `hetuflow agent ..`

mod token;

use std::time::Duration;

use hetuflow_core::{
    agent::{Agent, Connection, Duty},
    fingerprint::Fingerprint,
    protocol::{WatchHealth, WatchState},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::typed;
use crate::{
    args::AgentVerb,
    client::{Client, List},
    error::CliError,
    output::{Output, Tone, pairs, plain, time},
};

/// Between two looks at what an agent still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn run(verb: AgentVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        AgentVerb::List => list(client, output).await,
        AgentVerb::Show { id } => show(client, output, id.as_str()).await,
        AgentVerb::Token(args) => token::make(client, output, args).await,
        AgentVerb::Revoke { id } => token::revoke(client, output, id.as_str()).await,
        AgentVerb::Drain { id, undo: true, .. } => set(client, output, id.as_str(), Duty::Active).await,
        AgentVerb::Drain { id, wait, .. } => {
            set(client, output, id.as_str(), Duty::Drained).await?;
            if wait { until_idle(client, output, id.as_str()).await } else { Ok(()) }
        }
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
                state(output, agent),
                format!("{}/{}", agent.running, agent.slots),
                plain(&pairs(&agent.labels)),
                plain(&agent.hostname),
                key(agent),
                agent.version.clone(),
                time(agent.last_seen_at),
            ]
        })
        .collect();
    let heads = ["AGENT", "STATE", "RUNNING", "LABELS", "HOST", "KEY", "VERSION", "LAST SEEN"];
    output.table(&heads, rows, "No agent has connected yet. Start `hetuflow-agent` on this machine; another one joins with `hetuflow agent token`.")
}

async fn set(client: &Client, output: Output, id: &str, duty: Duty) -> Result<(), CliError> {
    let answer: Value = client.post(&format!("agents/{id}/update"), &json!({ "duty": duty })).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let agent: Agent = typed(&answer)?;
    output.line(&match agent.duty {
        Duty::Active => format!("{id} is given tasks again."),
        Duty::Drained => format!("{id} gets no more tasks; it runs {}.", agent.running),
    })
}

async fn until_idle(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    loop {
        let agent: Agent = client.get(&format!("agents/{id}"), &[]).await?;
        if agent.running == 0 {
            return if output.is_json() { Ok(()) } else { output.line(&format!("{id} runs nothing.")) };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn show(client: &Client, output: Output, id: &str) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("agents/{id}"), &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let agent: Agent = typed(&answer)?;
    output.fields(&[
        ("agent", agent.id.to_string()),
        ("state", state(output, &agent)),
        ("running", format!("{} of {} slots", agent.running, agent.slots)),
        ("labels", plain(&pairs(&agent.labels))),
        ("host", plain(&agent.hostname)),
        ("version", agent.version.clone()),
        (
            "key",
            match (agent.key, taken_back(&agent)) {
                (Some(key), _) => key.fingerprint.to_string(),
                (None, Some(at)) => format!("none: taken back at {}", time(at)),
                (None, None) => "none: on the server's machine".to_owned(),
            },
        ),
        ("joined", agent.key.map_or_else(String::new, |key| time(key.joined_at))),
        ("first seen", time(agent.first_seen_at)),
        ("last seen", time(agent.last_seen_at)),
    ])?;
    watches(output, answer.get("watches").and_then(Value::as_array).map_or(&[], Vec::as_slice))
}

fn key(agent: &Agent) -> String {
    match agent.key {
        Some(key) => brief(key.fingerprint),
        None if taken_back(agent).is_some() => "revoked".to_owned(),
        None => "local".to_owned(),
    }
}

/// Whoever is connected under the name of a key that was taken back has shown none, so it is on the server's machine.
fn taken_back(agent: &Agent) -> Option<Timestamp> {
    agent.key_revoked_at.filter(|_| agent.connection == Connection::Offline)
}

/// Enough to tell keys apart.
fn brief(key: Fingerprint) -> String {
    key.to_string().chars().take("sha256:".len() + 12).collect()
}

fn watches(output: Output, watches: &[Value]) -> Result<(), CliError> {
    for watch in watches {
        for line in describe(output, &typed(watch)?) {
            output.line(&line)?;
        }
    }
    Ok(())
}

/// How a watch does, and what to do about it.
fn describe(output: Output, watch: &WatchState) -> Vec<String> {
    let tone = match watch.health {
        WatchHealth::Live => Tone::Good,
        WatchHealth::Polling | WatchHealth::Full | WatchHealth::Overflowing => Tone::Busy,
        WatchHealth::Degraded | WatchHealth::Offline | WatchHealth::Hanging | WatchHealth::Refused => {
            Tone::Bad
        }
    };
    let counts = [
        (watch.tracked, "tracked"),
        (watch.settling, "settling"),
        (watch.stuck, "stuck"),
        (watch.hashing, "being hashed"),
        (watch.behind, "behind others"),
        (watch.withheld, "withheld"),
        (watch.rejected, "rejected"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .enumerate()
        .filter(|(place, (count, _))| *place == 0 || *count > 0)
        .map(|(_, (count, name))| format!("{count} {name}"))
        .collect();
    let scan =
        watch.last_scan.map_or_else(|| "no full look yet".to_owned(), |at| format!("looked at {}", time(at)));
    let health = output.tone(watch.health.name(), tone);
    let mut lines = vec![format!("watches {}: {health}, {}, {scan}", plain(&watch.key), counts.join(", "))];
    lines.extend(watch.ahead.map(|event| format!("  files wait for the end of event {event}")));
    lines.extend(
        watch.problem.as_ref().map(|problem| format!("  {}", output.tone(&plain(problem), Tone::Bad))),
    );
    lines
}

fn state(output: Output, agent: &Agent) -> String {
    let connection = connection(output, agent.connection);
    match agent.duty {
        Duty::Active => connection,
        Duty::Drained => format!("{connection}, {}", output.tone("drained", Tone::Busy)),
    }
}

fn connection(output: Output, connection: Connection) -> String {
    match connection {
        Connection::Online => output.tone("online", Tone::Good),
        Connection::Offline => output.tone("offline", Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Color, Format};

    #[test]
    fn a_watch_says_what_helps_it() {
        let watch = WatchState {
            key: "default/a".to_owned(),
            health: WatchHealth::Overflowing,
            tracked: 3,
            problem: Some("raise its limit with `sysctl fs.inotify.max_queued_events=131072`".to_owned()),
            ..WatchState::default()
        };
        let lines = describe(Output::new(Format::Table, Color::Never), &watch);
        assert_eq!(lines[0], "watches default/a: overflowing, 3 tracked, no full look yet");
        assert_eq!(lines[1], "  raise its limit with `sysctl fs.inotify.max_queued_events=131072`");
    }

    #[test]
    fn a_key_that_was_taken_back_is_not_that_of_the_servers_machine() {
        let check = |state: Value, expected: &str| {
            let mut agent = json!({
                "id": "web-1", "hostname": "web-1", "version": "0.1.0", "labels": {}, "slots": 1, "duty": "active",
                "running": 0, "first_seen_at": "2026-01-01T00:00:00Z", "last_seen_at": "2026-01-01T00:00:00Z",
            });
            agent.as_object_mut().expect("an object").extend(state.as_object().expect("an object").clone());
            assert_eq!(key(&typed(&agent).expect("an agent")), expected, "{agent}");
        };
        let taken_back = "2026-01-02T00:00:00Z";
        check(json!({ "connection": "offline" }), "local");
        check(json!({ "connection": "offline", "key_revoked_at": taken_back }), "revoked");
        check(json!({ "connection": "online", "key_revoked_at": taken_back }), "local");
    }
}
