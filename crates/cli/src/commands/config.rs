//! `hetuflow config ..`

use std::path::{Path, PathBuf};

use crate::{
    args::ConfigVerb,
    error::CliError,
    output::{Output, Tone},
};

pub(crate) fn run(verb: ConfigVerb, output: Output) -> Result<(), CliError> {
    match verb {
        ConfigVerb::Check { file, agent } => {
            if agent || is_agents(&file) {
                agent_config(Some(&file))?;
            } else {
                server_config(file.clone())?;
            }
            output.line(&format!("{}: {}", file.display(), output.tone("ok", Tone::Good)))
        }
    }
}

fn is_agents(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().contains("agent"))
}

/// The layers of a server with `file`.
pub(crate) fn server_config(file: PathBuf) -> Result<hetuflow_server::Config, CliError> {
    use hetuflow_server::config::ConfigError;
    hetuflow_server::Config::load(Some(file), &environment()).map_err(|error| match error {
        ConfigError::Read { path, source } => CliError::Read { path, source },
        ConfigError::Problems(problems) => CliError::Invalid(vec![problems]),
    })
}

/// The layers of an agent with `file`.
pub(crate) fn agent_config(file: Option<&Path>) -> Result<hetuflow_agent::Config, CliError> {
    use hetuflow_agent::ConfigError;
    hetuflow_agent::Config::load(file, &environment()).map_err(|error| match error {
        ConfigError::Unreadable { path, source } => CliError::Read { path, source },
        ConfigError::Problems(problems) => CliError::Invalid(vec![problems]),
        ConfigError::Value { .. } => CliError::Usage(error.to_string()),
    })
}

/// Read once, here.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
