//! `server.toml`.

#[derive(Debug, Clone)]
pub struct Config {}
