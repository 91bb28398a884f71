//! `hetuflow trigger test`: what a file would make of a payload, of an event, or of the last ones, beside what is in
//! force now. Everything is decided here, with the rules that the server has; it only lends its events.

mod events;
mod list;
mod payload;
mod shown;

use hetuflow_core::{
    event::{Event, SourceKind},
    id::Namespace,
    matching::{Body, Facts, Rehearsal, rehearse},
    trigger::{self, Trigger},
};
use hetuflow_server::triggers::KnownSchemes;
use serde::Deserialize;
use serde_json::json;

use super::read;
use crate::{args::TestArgs, client::Client, error::CliError, output::Output};
use shown::Case;

/// A trigger of the file, and the one of its name that is in force.
struct Tried {
    trigger: Trigger,
    in_force: Option<Trigger>,
}

pub(super) async fn run(args: TestArgs, client: &Client, output: Output) -> Result<(), CliError> {
    if args.list {
        return list::run(&triggers(&args)?, &args.base, output);
    }
    let mut tried = Vec::new();
    for trigger in triggers(&args)? {
        let in_force = if args.diff { in_force(&trigger, client).await? } else { None };
        tried.push(Tried { trigger, in_force });
    }
    let mut cases = Vec::new();
    for one in &tried {
        let events = match (&args.payload, args.event, args.last) {
            (Some(file), ..) => vec![payload::event(&one.trigger, file, &args)?],
            (None, Some(id), _) => vec![events::one(id, client).await?],
            (None, None, last) => events::last(&one.trigger, last.unwrap_or(1), client).await?,
        };
        cases.extend(events.into_iter().filter_map(|event| case(one, event)));
    }
    if output.is_json() {
        return output.json(&json!({ "cases": shown::json(&cases, args.diff) }));
    }
    if args.last.is_some() && cases.is_empty() {
        return output.line(&nothing_received(&tried));
    }
    if args.last.is_some() {
        return shown::many(&cases, args.diff, output);
    }
    if cases.is_empty() {
        let names: Vec<&str> = tried.iter().map(|one| one.trigger.name.as_str()).collect();
        return output.line(&format!(
            "{} would not be asked about this: another hook, or another type of event.",
            names.join(", ")
        ));
    }
    cases.iter().try_for_each(|case| shown::one(case, args.diff, output))
}

fn nothing_received(tried: &[Tried]) -> String {
    let hooks: Vec<String> = tried
        .iter()
        .flat_map(|one| one.trigger.webhooks.iter().map(|hook| one.trigger.source_of(hook)))
        .collect();
    let hooks = if hooks.is_empty() { String::new() } else { format!(" at {}", hooks.join(", ")) };
    format!(
        "Nothing that it would be asked about has been received{hooks}. A copy goes by its file's name: --name gives it another."
    )
}

/// The triggers of the file, or every problem of it.
fn triggers(args: &TestArgs) -> Result<Vec<Trigger>, CliError> {
    let (origin, name, text) = read(&args.file)?;
    let name = args.name.as_deref().unwrap_or(&name);
    let mut triggers = trigger::parse(&origin, name, &Namespace::default(), &text, &KnownSchemes)
        .map_err(|problems| CliError::Invalid(vec![problems]))?;
    if let Some(wanted) = &args.trigger {
        triggers.retain(|trigger| trigger.name.as_str() == wanted);
        if triggers.is_empty() {
            return Err(CliError::NotFound(format!("{origin} declares no trigger {wanted:?}")));
        }
    }
    Ok(triggers)
}

/// The text of what is in force of a trigger.
#[derive(Debug, Deserialize)]
struct InForce {
    origin: String,
    revision: i64,
    text: String,
}

async fn in_force(trigger: &Trigger, client: &Client) -> Result<Option<Trigger>, CliError> {
    let path = format!("triggers/{}", trigger.name);
    let found: InForce = match client.get(&path, &[]).await {
        Err(CliError::Refused { status: 404, .. }) => return Ok(None),
        found => found?,
    };
    if found.revision == 0 {
        return Ok(None);
    }
    let triggers =
        trigger::parse(&found.origin, trigger.name.as_str(), &trigger.namespace, &found.text, &KnownSchemes)
            .map_err(|problems| CliError::Invalid(vec![problems]))?;
    Ok(triggers.into_iter().find(|one| one.name == trigger.name))
}

/// `None` where neither would be asked.
fn case(tried: &Tried, event: Event) -> Option<Case> {
    let body = Body::parse(event.content_type.as_deref(), &event.body);
    let mut event = event;
    if let Err(reason) = &body {
        event.verdict = hetuflow_core::event::Verdict::Malformed { reason: reason.clone() };
    }
    let body = body.unwrap_or(Body::Empty);
    let file = match event.kind {
        SourceKind::File => serde_json::from_slice(&event.body).ok(),
        SourceKind::Webhook | SourceKind::Schedule | SourceKind::Api | SourceKind::Internal => None,
    };
    let facts = Facts { event: &event, body: &body, file: file.as_ref() };
    let now = rehearse(&tried.trigger, &facts);
    let before: Option<Rehearsal> = tried.in_force.as_ref().and_then(|trigger| rehearse(trigger, &facts));
    if now.is_none() && before.is_none() {
        return None;
    }
    Some(Case {
        trigger: tried.trigger.name.to_string(),
        labels: shown::labels(&tried.trigger),
        now,
        before,
        event,
    })
}
