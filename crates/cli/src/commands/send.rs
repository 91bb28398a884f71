//! `hetuflow event send`: signs a payload as the hook's provider would, and posts it.

use std::io::Read as _;

use hetuflow_core::{Clock, id::EventId, trigger::SecretRef};
use hetuflow_signature::{Scheme, Secret};
use hetuflow_store::StoredTrigger;
use serde::Deserialize;
use serde_json::Value;

use super::{logs::follow_all, typed};
use crate::{
    args::SendArgs,
    client::{Client, http_client, innermost},
    dev::secrets::DevSecrets,
    error::CliError,
    output::{Output, Tone},
};

/// What the API tells of an `[on.webhook]`.
#[derive(Debug, Deserialize)]
struct Hook {
    path: String,
    scheme: String,
    #[serde(default)]
    options: serde_json::Map<String, Value>,
    #[serde(default)]
    secrets: Vec<SecretRef>,
}

pub(crate) async fn run(args: SendArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get(&format!("triggers/{}", args.trigger), &[]).await?;
    let hook = hook(&typed(&answer)?)?;
    let scheme =
        Scheme::named(&hook.scheme, &hook.options).map_err(|error| CliError::Failed(error.to_string()))?;
    let secret = secret(&args, &hook)?;
    let (sample_type, sample_body) = scheme.sample();
    let event_type = args.event_type.clone().unwrap_or_else(|| sample_type.to_owned());
    let body = match &args.data {
        Some(data) => payload(data)?,
        None => sample_body.as_bytes().to_vec(),
    };
    let now = Clock::system().now();
    let id = args.id.clone().unwrap_or_else(|| EventId::at(now).to_string());
    let headers = scheme
        .sign(&secret, &body, &id, &event_type, now)
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let url = format!("{}/hooks/{}", args.hooks.trim_end_matches('/'), hook.path);
    let answer = post(&url, headers, body, output).await?;
    if !args.follow {
        return Ok(());
    }
    // A hook may answer with words of its own.
    let taken: Taken = serde_json::from_str(&answer).map_err(|_| {
        CliError::Failed(
            "the hook's answer names no tasks to follow: `hetuflow event list` shows the event".to_owned(),
        )
    })?;
    follow_all(&taken.task_ids, client, output).await
}

/// What of a receipt is of use here.
#[derive(Debug, Deserialize)]
struct Taken {
    task_ids: Vec<String>,
}

async fn post(
    url: &str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    output: Output,
) -> Result<String, CliError> {
    let mut request = http_client()?.post(url).header("content-type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| CliError::Unreachable {
        url: url.to_owned(),
        reason: innermost(&error),
        option: "--hooks URL or HETUFLOW_HOOKS_URL",
    })?;
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    if !status.is_success() {
        return Err(CliError::Refused {
            status: status.as_u16(),
            title: format!("{url} answered {status}"),
            detail: Some(text),
        });
    }
    if !output.is_json() {
        output.line(&output.tone(&format!("{status}"), Tone::Good))?;
    }
    output.line(&text)?;
    Ok(text)
}

fn hook(trigger: &StoredTrigger) -> Result<Hook, CliError> {
    trigger
        .schedules
        .iter()
        .filter(|schedule| schedule.name.starts_with("webhook"))
        .find_map(|schedule| Hook::deserialize(&schedule.spec).ok())
        .ok_or_else(|| CliError::Failed(format!("trigger {} has no [on.webhook]", trigger.name)))
}

/// From the variable that was named, else from where the trigger says, else from what `dev` made.
fn secret(args: &SendArgs, hook: &Hook) -> Result<Secret, CliError> {
    if let Some(name) = &args.secret_env {
        return std::env::var(name)
            .map(Secret::new)
            .map_err(|_| CliError::Usage(format!("environment variable {name} is not set")));
    }
    let made = DevSecrets::read(&args.data_dir)?;
    for reference in &hook.secrets {
        match reference {
            SecretRef::Env(name) => {
                if let Some(value) = std::env::var(name).ok().or_else(|| made.get(name).map(str::to_owned)) {
                    return Ok(Secret::new(value));
                }
            }
            SecretRef::File(path) => {
                if let Ok(text) = std::fs::read_to_string(path) {
                    return Ok(Secret::new(text.trim_end_matches(['\n', '\r'])));
                }
            }
            SecretRef::Credential(_) | SecretRef::Url(_) => {}
        }
    }
    Err(CliError::Usage(
        "none of the hook's secrets can be read from here: name a variable that holds it with --secret-env NAME".to_owned(),
    ))
}

/// A text, `@FILE`, or `-` for standard input.
pub(super) fn payload(data: &str) -> Result<Vec<u8>, CliError> {
    if data == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    match data.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|source| CliError::Read { path: path.into(), source }),
        None => Ok(data.as_bytes().to_vec()),
    }
}
