//! Configuration in layers: the commented sample that ships, the operator's file, the environment.

use serde::de::DeserializeOwned;

use crate::trigger::Problems;

/// One file's text under the name that messages use.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    pub origin: &'a str,
    pub text: &'a str,
}

/// Merges `defaults`, then `file`, then those `environment` pairs that start with `prefix` (`HETUFLOW_SERVER`:
/// `HETUFLOW_SERVER__DATABASE__URL` is `[database] url`; values are TOML where they parse as
/// TOML, otherwise text), and reads the whole as `T`. Every problem is reported at once.
pub fn read<T: DeserializeOwned>(
    _defaults: Layer<'_>,
    _file: Option<Layer<'_>>,
    _prefix: &str,
    _environment: &[(String, String)],
) -> Result<T, Problems> {
    todo!()
}
