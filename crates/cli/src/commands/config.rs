//! `hetuflow config ..`

use std::path::Path;

use hetuflow_core::config::Setting;
use serde_json::json;

use crate::{
    args::ConfigVerb,
    error::CliError,
    output::{Output, Tone, plain},
};

pub(crate) fn run(verb: ConfigVerb, output: Output) -> Result<(), CliError> {
    match verb {
        ConfigVerb::Check { file, agent } => {
            if agent || is_agents(&file) {
                agent_config(Some(&file))?;
            } else {
                server_config(&file)?;
            }
            output.line(&format!("{}: {}", file.display(), output.tone("ok", Tone::Good)))
        }
        ConfigVerb::Show { file, agent } => show(file.as_deref(), agent, output),
    }
}

/// By what only such a file holds, or else by its name.
fn is_agents(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    if has(&["agent", "labels", "executor", "files", "logging"]) {
        return true;
    }
    !has(&["server", "database", "triggers", "hooks"])
        && file.file_name().is_some_and(|name| name.to_string_lossy().contains("agent"))
}

/// As a file that could be used, each value with a remark on who says it.
fn show(file: Option<&Path>, agent: bool, output: Output) -> Result<(), CliError> {
    let agents = agent || file.is_some_and(is_agents);
    let settings = if agents {
        hetuflow_agent::Config::explain(file, &environment()).map_err(of_agent)?.1
    } else {
        hetuflow_server::Config::explain(file, &environment()).map_err(of_server)?.1
    };
    if output.is_json() {
        let entry = |one: &Setting| json!({ "key": one.keys.join("."), "value": shown(&one.value), "origin": one.origin });
        return output.json(&settings.iter().map(entry).collect::<Vec<_>>());
    }
    let mut table: &[String] = &[];
    for (n, setting) in settings.iter().enumerate() {
        let Some((key, above)) = setting.keys.split_last() else { continue };
        if n == 0 || above != table {
            let gap = if n == 0 { "" } else { "\n" };
            output.line(&format!("{gap}[{}]", above.join(".")))?;
            table = above;
        }
        let says = format!("{key} = {}", shown(&setting.value));
        let origin = output.tone(&format!("# {}", plain(&setting.origin)), Tone::Faint);
        output.line(&format!("{says:<44} {origin}"))?;
    }
    Ok(())
}

/// An address may hold a password, and a token is one.
fn shown(value: &toml::Value) -> toml::Value {
    let hidden = |text: &str| {
        if text.starts_with("hetuflow-join-") {
            return Some("hetuflow-join-***".to_owned());
        }
        let (scheme, rest) = text.split_once("://")?;
        let (user, place) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{place}"))
    };
    match value.as_str().and_then(hidden) {
        Some(text) => toml::Value::String(text),
        None => value.clone(),
    }
}

/// The layers of a server with `file`.
pub(crate) fn server_config(file: &Path) -> Result<hetuflow_server::Config, CliError> {
    hetuflow_server::Config::load(Some(file), &environment()).map_err(of_server)
}

fn of_server(error: hetuflow_server::config::ConfigError) -> CliError {
    use hetuflow_server::config::ConfigError;
    match error {
        ConfigError::Read { path, source } => CliError::Read { path, source },
        ConfigError::Problems(problems) => CliError::Invalid(vec![problems]),
    }
}

/// The layers of an agent with `file`.
pub(crate) fn agent_config(file: Option<&Path>) -> Result<hetuflow_agent::Config, CliError> {
    hetuflow_agent::Config::load(file, &environment()).map_err(of_agent)
}

fn of_agent(error: hetuflow_agent::ConfigError) -> CliError {
    use hetuflow_agent::ConfigError;
    match error {
        ConfigError::Unreadable { path, source } => CliError::Read { path, source },
        ConfigError::Problems(problems) => CliError::Invalid(vec![problems]),
        ConfigError::Value { .. } => CliError::Usage(error.to_string()),
    }
}

/// Read once, here.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        let check = |text: &str, expected: &str| {
            assert_eq!(shown(&toml::Value::String(text.to_owned())).as_str(), Some(expected));
        };
        check("postgres://me:pw:@x@host/db", "postgres://me:***@host/db");
        check("postgres://me@host/db", "postgres://me@host/db");
        check("sqlite:///var/lib/hetuflow.db", "sqlite:///var/lib/hetuflow.db");
        check("triggers", "triggers");
        check("hetuflow-join-AQID", "hetuflow-join-***");
    }
}
