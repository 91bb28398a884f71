//! The server's own key, and whether it needs one: where the agents' listener faces a network, it takes nobody without
//! TLS. `run` asks at the start.

use std::path::PathBuf;

use hetuflow_trust::{Acceptor, Identity, IdentityError};

use crate::{Config, Listeners};

/// In `[tls] directory`.
const KEY_FILE: &str = "server.pem";

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "agents of other machines need TLS ([server] websocket_port is not loopback), and the server has no key for it: \
         write [tls] directory = a folder that the server may write, or certificate and key, or make it a port on \
         loopback"
    )]
    Key(#[source] IdentityError),
    #[error("[tls] certificate and key go together: write both, or none")]
    Half,
    #[error("[tls] the key cannot be used: {0}")]
    Unusable(String),
}

/// `None`: agents come over loopback only.
pub(crate) fn acceptor(config: &Config, listeners: &Listeners) -> Result<Option<Acceptor>, TlsError> {
    if listeners.addresses().agents.ip().to_canonical().is_loopback() {
        return Ok(None);
    }
    let identity = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => Identity::of_files(certificate, key),
        (None, None) => Identity::kept(&key_file(config)),
        (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
    };
    let identity = identity.map_err(TlsError::Key)?;
    Acceptor::new(&identity).map(Some).map_err(|error| TlsError::Unusable(error.to_string()))
}

/// Of the key that the server makes for itself.
pub fn key_file(config: &Config) -> PathBuf {
    config.tls.directory.join(KEY_FILE)
}
