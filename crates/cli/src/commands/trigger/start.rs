//! `hetuflow trigger start`: what `[on.api]` waits for.

use hetuflow_core::id::EventId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::Client,
    commands::{replay::started, send::payload, typed},
    error::CliError,
    output::Output,
};

#[derive(Debug, Deserialize)]
struct Started {
    event_id: EventId,
    task_ids: Vec<String>,
}

/// Yields the tasks that it started.
pub(super) async fn run(
    name: &str,
    data: Option<&str>,
    client: &Client,
    output: Output,
) -> Result<Vec<String>, CliError> {
    let data: Value = match data {
        Some(data) => serde_json::from_slice(&payload(data)?)
            .map_err(|error| CliError::Usage(format!("--data is not JSON: {error}")))?,
        None => json!({}),
    };
    // One start is one event, also where the answer is lost on its way.
    let key = uuid::Uuid::new_v4().to_string();
    let answer: Value = client.post_once(&format!("triggers/{name}/start"), &key, &data).await?;
    let Started { event_id, task_ids } = typed(&answer)?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        output.line(&format!("event {event_id}"))?;
        started(event_id, &task_ids, output)?;
    }
    Ok(task_ids)
}
