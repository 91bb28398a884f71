//! One file per noun.

pub(crate) mod agent;
pub(crate) mod completions;
pub(crate) mod config;
mod decision;
pub(crate) mod doctor;
pub(crate) mod event;
pub(crate) mod health;
pub(crate) mod job;
mod logs;
mod progress;
mod replay;
pub(crate) mod schedule;
mod send;
pub(crate) mod server;
pub(crate) mod signature;
pub(crate) mod task;
pub(crate) mod trigger;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::CliError;

/// The typed form of an answer that is also printed as it came.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, CliError> {
    T::deserialize(value)
        .map_err(|error| CliError::Failed(format!("the server's answer is not as expected: {error}")))
}

/// A query without the parameters that were not given.
fn query<'a>(parameters: &[(&'a str, Option<String>)]) -> Vec<(&'a str, String)> {
    parameters.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect()
}
