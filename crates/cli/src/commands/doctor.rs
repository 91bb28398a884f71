//! `hetuflow doctor`: what a server and an agent would find on this machine, and what to do about it. It changes nothing: what
//! measures the disk is a file without a name.

mod agent;
mod host;
mod server;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    args::DoctorArgs,
    error::CliError,
    output::{Output, Tone, plain},
};

/// Where the units look.
const SERVER: &str = "/etc/hetuflow/server.toml";
const AGENT: &str = "/etc/hetuflow/agent.toml";

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// It works, but less well than it could.
    Warning,
    /// It does not work.
    Bad,
}

impl Finding {
    fn good(what: &str, text: impl Into<String>) -> Self {
        Self { what: what.to_owned(), verdict: Verdict::Good, text: text.into(), remedy: None }
    }

    fn warning(what: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, remedy: Some(remedy.into()), ..Self::good(what, text) }
    }

    fn bad(what: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, remedy: Some(remedy.into()), ..Self::good(what, text) }
    }
}

pub(crate) async fn run(args: DoctorArgs, output: Output) -> Result<(), CliError> {
    let server = args.config.or_else(|| there(SERVER));
    let agent = args.agent_config.or_else(|| there(AGENT));
    let mut found = host::look();
    if let Some(file) = &server {
        found.extend(server::look(file).await);
    }
    if let Some(file) = &agent {
        found.extend(agent::look(file).await);
    }
    if output.is_json() {
        output.json(&found)?;
    } else {
        found.iter().try_for_each(|finding| print(finding, output))?;
        if server.is_none() && agent.is_none() {
            output.line("No configuration was looked at: name one with --config or --agent-config.")?;
        }
    }
    match found.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        1 => Err(CliError::Failed("one thing has to be mended".to_owned())),
        many => Err(CliError::Failed(format!("{many} things have to be mended"))),
    }
}

fn there(file: &str) -> Option<PathBuf> {
    Path::new(file).exists().then(|| PathBuf::from(file))
}

fn print(finding: &Finding, output: Output) -> Result<(), CliError> {
    let (word, tone) = match finding.verdict {
        Verdict::Good => ("ok", Tone::Good),
        Verdict::Warning => ("could be better", Tone::Busy),
        Verdict::Bad => ("wrong", Tone::Bad),
    };
    output.line(&format!("{}: {}: {}", finding.what, output.tone(word, tone), plain(&finding.text)))?;
    match &finding.remedy {
        Some(remedy) => output.line(&format!("  {}", plain(remedy))),
        None => Ok(()),
    }
}
