//! `hetuflow job ..`: what there is to run.

use hetuflow_core::job::Job;
use serde_json::Value;

use super::typed;
use crate::{
    args::JobVerb,
    client::{Client, List},
    error::CliError,
    output::{Output, plain},
};

pub(crate) async fn run(verb: JobVerb, client: &Client, output: Output) -> Result<(), CliError> {
    match verb {
        JobVerb::List => list(client, output).await,
        JobVerb::Show { name } => show(&name, client, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("jobs", &[]).await?;
    if output.is_json() {
        return output.json(&answer);
    }
    let list: List<Job> = typed(&answer)?;
    let rows = list.items.iter().map(|job| {
        vec![plain(&job.name), job.revision.to_string(), plain(&command(job)), plain(&job.description)]
    });
    output.table(
        &["JOB", "REVISION", "RUNS", "DESCRIPTION"],
        rows.collect(),
        "No jobs: [job] in a trigger file makes one.",
    )
}

/// The command line as it is written, with its templates.
fn command(job: &Job) -> String {
    let words = std::iter::once(&job.config.cmd).chain(&job.config.args);
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}

async fn show(name: &str, client: &Client, output: Output) -> Result<(), CliError> {
    let answer: Value = client.get("jobs", &[("name", name.to_owned())]).await?;
    let list: List<Job> = typed(&answer)?;
    if list.items.is_empty() {
        let (title, detail) = ("there is no such job".to_owned(), Some(format!("{name:?}")));
        return Err(CliError::Refused { status: 404, title, detail });
    }
    if output.is_json() {
        return output.json(answer.get("items").unwrap_or(&answer));
    }
    for job in &list.items {
        output.fields(&[
            ("job", plain(&job.name)),
            ("id", job.id.to_string()),
            ("namespace", job.namespace.to_string()),
            ("revision", job.revision.to_string()),
            ("description", plain(&job.description)),
        ])?;
        output.json(&job.config)?;
    }
    Ok(())
}
