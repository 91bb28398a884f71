//! A job: what to run, where, within which limits, and what happens when it ends badly.
//!
//! [`JobSpec`] is what a trigger file's `[job]` and the API's `config` hold: its texts may carry
//! templates. A task carries a [`Command`], in which every template has been replaced.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, Namespace},
    labels::Selector,
    retry::{OnLost, Retry},
};

/// A job as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub namespace: Namespace,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Grows with every change.
    pub revision: i64,
    pub config: JobSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The program: an absolute path, or a name that the agent looks up in the job's `PATH`.
    pub cmd: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Text for the standard input; without it the process reads end-of-file at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The user to run as; the agent must be root. Without it, the agent's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// No limit without it.
    #[serde(default, with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Attempts after the first.
    #[serde(default)]
    pub max_retries: u32,
    #[serde(default = "default_retry_interval", with = "crate::duration")]
    pub retry_interval: Duration,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<OnLost>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i16,
    #[serde(default = "yes")]
    pub capture_output: bool,
    /// Bytes of output that are kept per attempt; what comes after is dropped and counted.
    #[serde(default = "default_max_output_size")]
    pub max_output_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
    #[serde(default)]
    pub labels: Selector,
}

impl JobSpec {
    /// A job that runs `cmd`, with every other field at its default.
    #[must_use]
    pub fn running(cmd: impl Into<String>) -> Self {
        Self {
            cmd: cmd.into(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: None,
            stdin: None,
            user: None,
            timeout: None,
            max_retries: 0,
            retry_interval: default_retry_interval(),
            retry: Retry::default(),
            on_lost: None,
            priority: 0,
            capture_output: true,
            max_output_size: default_max_output_size(),
            resource_limits: None,
            labels: Selector::default(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_mb: Option<u64>,
    /// 1.0 is one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu_percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_execution_time_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_size_bytes: Option<u64>,
}

/// What one task runs: a [`JobSpec`] with every template replaced, fixed when the task is made, so
/// that a later edit of the job does not change what was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub cmd: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(default = "yes")]
    pub capture_output: bool,
    #[serde(default = "default_max_output_size")]
    pub max_output_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
}

const fn yes() -> bool {
    true
}

const fn default_retry_interval() -> Duration {
    Duration::from_secs(10)
}

const fn default_max_output_size() -> u64 {
    1024 * 1024
}
