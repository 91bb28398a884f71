//! The log of `dev` and `up`: standard error, text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// `HETUFLOW_LOG` (or `RUST_LOG`) overrides `level`; the last caller of a process wins nothing, so
/// this is called once.
pub(crate) fn start(level: &str, json: bool) {
    let filter = std::env::var("HETUFLOW_LOG")
        .or_else(|_| std::env::var("RUST_LOG"))
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
