//! What a trigger file may say about signature schemes.

use hetuflow_core::trigger::Known;
use hetuflow_signature::Scheme;
use serde_json::{Map, Value};

/// The schemes that are built in.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownSchemes;

impl Known for KnownSchemes {
    fn check_scheme(&self, scheme: &str, options: &Map<String, Value>, secrets: usize) -> Result<(), String> {
        Scheme::builtin(scheme, options).map_err(|error| error.to_string())?;
        if secrets == 0 {
            return Err(format!("scheme {scheme:?} needs a secret: secret = {{ env = \"NAME\" }}"));
        }
        Ok(())
    }
}
