//! What `hetuflow dev` prints once everything runs: where it listens, what is live, how to try it.

use std::path::Path;

use hetuflow_core::{
    Clock,
    id::EventId,
    trigger::{EventSource, SecretRef, Trigger, WebhookSource},
};
use hetuflow_server::{Server, triggers::Live};
use hetuflow_signature::{Scheme, Secret};
use jiff::{Timestamp, tz::TimeZone};

use super::{folders, secrets::DevSecrets};
use crate::{
    args::DevArgs,
    error::CliError,
    output::{Output, Tone, plain},
};

/// How to try one source of a trigger.
struct Line {
    trigger: String,
    kind: &'static str,
    try_it: String,
}

/// Where the parts of the running system are.
struct Places<'a> {
    hooks: String,
    data_dir: &'a Path,
    secrets: &'a DevSecrets,
    program: String,
}

pub(crate) fn print(
    server: &Server,
    args: &DevArgs,
    secrets: &DevSecrets,
    output: Output,
) -> Result<(), CliError> {
    let addresses = server.addresses();
    let program = program();
    let places =
        Places { hooks: format!("http://{}", addresses.hooks), data_dir: &args.data_dir, secrets, program };
    let version = env!("CARGO_PKG_VERSION");
    output.line(&format!(
        "hetuflow {version} is running. Everything it keeps is in {}\n",
        args.data_dir.display()
    ))?;
    output.line(&format!("  API       http://{}", addresses.http))?;
    // Beyond loopback they speak TLS.
    let scheme = if addresses.agents.ip().to_canonical().is_loopback() { "ws" } else { "wss" };
    output.line(&format!("  agents    {scheme}://{}", addresses.agents))?;
    output.line(&format!("  webhooks  http://{}/hooks/\n", addresses.hooks))?;
    triggers(server, args, &places, output)?;
    let Places { program, .. } = places;
    output.line(&format!("\nThen: {program} event list | task list | task logs ID --follow | trigger list"))
}

fn triggers(server: &Server, args: &DevArgs, places: &Places<'_>, output: Output) -> Result<(), CliError> {
    let set = server.state.triggers.current();
    let clock = &server.state.clock;
    let lines: Vec<Line> = set.live.values().flat_map(|live| lines(live, places, clock)).collect();
    let width = lines.iter().map(|line| line.trigger.len()).max().unwrap_or(0);
    for Line { trigger, kind, try_it } in &lines {
        output.line(&format!(
            "  {trigger:width$}  {}  {try_it}",
            output.tone(&format!("{kind:8}"), Tone::Faint)
        ))?;
    }
    for problem in set.stored.iter().filter_map(|stored| stored.problem.as_ref()) {
        output.line(&format!("  {}  {}", output.tone("broken", Tone::Bad), plain_lines(problem)))?;
    }
    if lines.is_empty() {
        output.line(&format!("  No triggers yet: put a file into {}", args.triggers.display()))?;
    }
    Ok(())
}

fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n          ")
}

/// How this program was called, so that the printed commands can be pasted.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.is_empty() { "hetuflow".to_owned() } else { called }
}

fn lines(in_force: &Live, places: &Places<'_>, clock: &Clock) -> Vec<Line> {
    let trigger = &in_force.trigger;
    let line = |kind, try_it| Line { trigger: trigger.name.to_string(), kind, try_it };
    let now = clock.now();
    let webhooks =
        trigger.webhooks.iter().map(|hook| line("webhook", try_webhook(trigger, hook, places, now)));
    let files = trigger
        .files
        .iter()
        .flat_map(|source| &source.paths)
        .map(|glob| line("file", try_file(glob, places)));
    let clocks = in_force.clocks.iter().map(|clock| {
        let schedule = &clock.schedule;
        let kind = if schedule.deadline.is_some() { "deadline" } else { schedule.rule.kind().name() };
        // From when it was made, which may be long ago.
        line(kind, next(schedule.rule.next_after(clock.created_at, now)))
    });
    let daemons = trigger.daemons.iter().map(|_| line("daemon", "is kept running".to_owned()));
    let by_hand = EventSource::by_hand(&trigger.name);
    let events = trigger.events.iter().map(|event| match &event.event_type {
        own if *own == by_hand => line("api", format!("{} trigger start {}", places.program, trigger.name)),
        other => line("event", try_event(other)),
    });
    webhooks.chain(files).chain(clocks).chain(daemons).chain(events).collect()
}

/// A signed `curl` line where the signature does not age, else the command that signs afresh.
fn try_webhook(trigger: &Trigger, hook: &WebhookSource, places: &Places<'_>, now: Timestamp) -> String {
    let fresh = format!("{} event send {}", places.program, trigger.name);
    signed_curl(hook, places, now).unwrap_or(fresh)
}

fn signed_curl(hook: &WebhookSource, places: &Places<'_>, now: Timestamp) -> Option<String> {
    let scheme = Scheme::named(&hook.scheme, &hook.options).ok()?;
    let secret = hook.secrets.iter().find_map(|reference| match reference {
        SecretRef::Env(name) => {
            places.secrets.get(name).map(str::to_owned).or_else(|| std::env::var(name).ok())
        }
        SecretRef::File(_) | SecretRef::Credential(_) | SecretRef::Url(_) => None,
    })?;
    let (event_type, body) = scheme.sample();
    let id = EventId::at(now).to_string();
    let sign = |at| scheme.sign(&Secret::new(secret.clone()), body.as_bytes(), &id, event_type, at).ok();
    let headers = sign(now)?;
    let ages = sign(now + jiff::SignedDuration::from_secs(1))? != headers;
    let quotes = body.contains('\'') || headers.iter().any(|(_, value)| value.contains('\''));
    if ages || quotes {
        return None;
    }
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("-H '{name}: {value}'")).collect();
    let headers = headers.join(" ");
    Some(format!(
        "curl {headers} -H 'content-type: application/json' -d '{body}' {}/hooks/{}",
        places.hooks, hook.path
    ))
}

fn try_file(glob: &str, places: &Places<'_>) -> String {
    match folders::example(places.data_dir, glob) {
        Some(path) => format!("echo 'a,b' > {}", path.display()),
        None => format!("put a file where {glob} finds it"),
    }
}

fn try_event(event_type: &str) -> String {
    format!("starts on events of type {event_type} (POST /api/v1/events)")
}

fn next(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => format!("next at {}", at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S")),
        None => "never again".to_owned(),
    }
}
