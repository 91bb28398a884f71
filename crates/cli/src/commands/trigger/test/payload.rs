//! An event out of a file, as it would be if that were delivered.

use std::{io::Read as _, path::Path};

use hetuflow_core::{
    Clock,
    event::{Event, SourceKind},
    trigger::Trigger,
};
use jiff::Timestamp;

use crate::{args::TestArgs, error::CliError};

/// Larger than what any hook takes.
const MAX_BODY: u64 = 25 * 1024 * 1024;

pub(super) fn event(trigger: &Trigger, file: &Path, args: &TestArgs) -> Result<Event, CliError> {
    let headers = args.header.iter().map(|header| parse(header)).collect::<Result<Vec<_>, _>>()?;
    let said = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.clone());
    let body = body(file)?;
    let (kind, source, event_type) = place(trigger, args)?;
    let now = Clock::system().now();
    Ok(Event {
        time: time(&body, kind).unwrap_or(now),
        // As most senders say it; where it is none, it is a text.
        content_type: said.or_else(|| looks_like_json(&body).then(|| "application/json".to_owned())),
        headers,
        query: args.query.clone(),
        body: body.into(),
        ..Event::new(kind, trigger.namespace.clone(), source, event_type, now)
    })
}

/// How it would come in: at the first hook, else as an event, else as a file.
fn place(trigger: &Trigger, args: &TestArgs) -> Result<(SourceKind, String, String), CliError> {
    let wanted = args.event_type.clone();
    if let Some(hook) = trigger.webhooks.first() {
        let event_type =
            wanted.or_else(|| hook.events.first().cloned()).unwrap_or_else(|| "webhook".to_owned());
        return Ok((SourceKind::Webhook, trigger.source_of(hook), event_type));
    }
    if let Some(source) = trigger.events.first() {
        let event_type = wanted.unwrap_or_else(|| source.event_type.clone());
        return Ok((SourceKind::Api, "/api".to_owned(), event_type));
    }
    if !trigger.files.is_empty() {
        let source = format!("/agents/any/files/{}", trigger.key());
        return Ok((SourceKind::File, source, wanted.unwrap_or_else(|| "file.arrived".to_owned())));
    }
    Err(CliError::Usage(format!(
        "{} is started by a clock and takes no payload: try --last 1, or `hetuflow schedule next {0}`",
        trigger.name
    )))
}

/// A file's event happened when the agent saw it; its payload says the file's own time.
fn time(body: &[u8], kind: SourceKind) -> Option<Timestamp> {
    if kind != SourceKind::File {
        return None;
    }
    serde_json::from_slice::<hetuflow_core::event::FileFacts>(body).ok().map(|file| file.mtime)
}

fn looks_like_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn parse(header: &str) -> Result<(String, String), CliError> {
    let (name, value) = header
        .split_once(':')
        .ok_or_else(|| CliError::Usage(format!("--header {header:?} is not of the form \"NAME: VALUE\"")))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn body(file: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::Read { path: file.to_path_buf(), source };
    let mut body = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_BODY + 1).read_to_end(&mut body).map_err(failed)?;
    } else {
        std::fs::File::open(file)
            .map_err(failed)?
            .take(MAX_BODY + 1)
            .read_to_end(&mut body)
            .map_err(failed)?;
    }
    if body.len() as u64 > MAX_BODY {
        return Err(CliError::Usage(format!("{} is larger than any hook takes (25 MiB)", file.display())));
    }
    Ok(body)
}
