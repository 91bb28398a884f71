//! `hetuflow task logs`: the output of attempts, as it was or as it comes.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use hetuflow_core::{id::InstanceId, task::TaskInstance};
use reqwest::Response;
use serde::Deserialize;

use super::{task::Shown, typed};
use crate::{
    client::Client,
    error::CliError,
    output::{Output, Tone},
};

/// How long to wait before looking again whether an attempt has begun.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The output of one attempt, or of the last attempt of a task.
pub(crate) async fn print(id: &str, client: &Client, output: Output) -> Result<(), CliError> {
    match shown(id, client).await? {
        Some(Shown { instances, .. }) => match instances.first() {
            Some(instance) => {
                copy(instance.id, client, output).await?;
                tell_dropped(instance, output);
                Ok(())
            }
            None => Err(CliError::Failed("it has not started yet; --follow waits for it".to_owned())),
        },
        None => copy(instance_id(id)?, client, output).await,
    }
}

/// Not among the output itself, which may go to a file.
fn tell_dropped(instance: &TaskInstance, output: Output) {
    if instance.output_dropped > 0 {
        output.note(&format!(
            "{} more bytes were printed and not kept: [job] max_output_size is the limit",
            instance.output_dropped
        ));
    }
}

/// One task after the other. Fails if one of them does, once all have ended.
pub(crate) async fn follow_all(tasks: &[String], client: &Client, output: Output) -> Result<(), CliError> {
    let mut failed = None;
    for task in tasks {
        if tasks.len() > 1 {
            output.line(&output.tone(&format!("-- task {task}"), Tone::Faint))?;
        }
        match follow(task, client, output).await {
            Err(CliError::Failed(why)) => failed = failed.or(Some(CliError::Failed(why))),
            other => other?,
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Every attempt from now on until the task has ended.
pub(crate) async fn follow(id: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let mut done: Vec<InstanceId> = Vec::new();
    loop {
        let Some(Shown { task, instances, .. }) = shown(id, client).await? else {
            return stream(instance_id(id)?, client, output).await;
        };
        if let Some(instance) = instances.iter().rev().find(|instance| !done.contains(&instance.id)) {
            if !done.is_empty() {
                output.line(&output.tone(&format!("-- attempt {}", instance.attempt), Tone::Faint))?;
            }
            stream(instance.id, client, output).await?;
            done.push(instance.id);
        } else if task.status.is_final() {
            let ended = format!("the task ended {}", task.status);
            let good = task.status == hetuflow_core::status::Status::Succeeded;
            return if good { Ok(()) } else { Err(CliError::Failed(ended)) };
        } else {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The task, or `None` when the id may be an attempt's.
async fn shown(id: &str, client: &Client) -> Result<Option<Shown>, CliError> {
    match client.get::<serde_json::Value>(&format!("tasks/{id}"), &[]).await {
        Ok(answer) => typed(&answer).map(Some),
        Err(CliError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn instance_id(id: &str) -> Result<InstanceId, CliError> {
    id.parse().map_err(|_| CliError::NotFound(format!("no task and no attempt has the id {id:?}")))
}

async fn copy(id: InstanceId, client: &Client, output: Output) -> Result<(), CliError> {
    let response = client.open(&format!("task-instances/{id}/logs"), "text/plain", None).await?;
    drain(response, output).await
}

async fn drain(response: Response, output: Output) -> Result<(), CliError> {
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        output.bytes(&piece.map_err(|error| CliError::Failed(format!("the output broke off: {error}")))?)?;
    }
    Ok(())
}

/// Follows one attempt's event stream to its end; a broken connection goes on after the last piece that came.
async fn stream(id: InstanceId, client: &Client, output: Output) -> Result<(), CliError> {
    let mut last: Option<String> = None;
    loop {
        let path = format!("task-instances/{id}/logs");
        let response = client.open(&path, "text/event-stream", last.as_deref()).await?;
        let mut body = response.bytes_stream();
        let mut frames = Frames::default();
        while let Some(Ok(piece)) = body.next().await {
            frames.push(&piece);
            while let Some(frame) = frames.next() {
                if frame.event == "end" {
                    return Ok(());
                }
                print_frame(&frame, output)?;
                last = frame.id.or(last);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The bytes of one piece: text, or base64 where it is not UTF-8 by itself.
#[derive(Debug, Deserialize)]
struct Piece {
    text: Option<String>,
    base64: Option<String>,
}

fn print_frame(frame: &SseFrame, output: Output) -> Result<(), CliError> {
    let Ok(piece) = serde_json::from_str::<Piece>(&frame.data) else { return Ok(()) };
    let bytes = match (piece.text, piece.base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    output.bytes(&bytes)
}

/// One event of an event stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct SseFrame {
    id: Option<String>,
    event: String,
    data: String,
}

/// Cuts an event stream into its frames.
#[derive(Debug, Default)]
struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<SseFrame> {
        let end = self.buffer.windows(2).position(|two| two == b"\n\n")?;
        let text: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let mut frame = SseFrame::default();
        for line in String::from_utf8_lossy(&text).lines() {
            match line.split_once(": ").or_else(|| line.split_once(':')) {
                Some(("id", value)) => frame.id = Some(value.to_owned()),
                Some(("event", value)) => value.clone_into(&mut frame.event),
                Some(("data", value)) if frame.data.is_empty() => value.clone_into(&mut frame.data),
                Some(("data", value)) => {
                    frame.data.push('\n');
                    frame.data.push_str(value);
                }
                _ => {}
            }
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let stream = b": hello\n\nid: 3\nevent: output\ndata: {\"text\":\"a\"}\n\nevent: end\ndata: {}\n\n";
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                frames.push(part);
                while let Some(frame) = frames.next() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen.len(), 3);
            assert_eq!(seen[1].id.as_deref(), Some("3"));
            assert_eq!(seen[1].data, r#"{"text":"a"}"#);
            assert_eq!(seen[2].event, "end");
        }
    }
}
