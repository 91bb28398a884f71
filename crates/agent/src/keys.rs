//! How this agent and servers of other machines know each other: its own key, the keys of the servers, and the token with which it
//! joins, once. Kept in the data directory: `agent.pem` (the key), `servers.json`. Where every server is dialled with
//! `ws://` there is nothing of this. The link asks here at each dial.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use hetuflow_core::{
    fingerprint::{Fingerprint, TokenSecret},
    id::AgentId,
    protocol::{self, Join},
};
use hetuflow_trust::{
    AuthoritiesError, Connector, Identity, IdentityError, JoinToken, Known, NoToken, RootCertStore,
    authorities, keep_private,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::config::{Agent, Config, TokenSource};

const KEY: &str = "agent.pem";
/// The key of an agent that is about to join: a key that was taken back is never used again.
const NEW_KEY: &str = "agent-joins.pem";
const SERVERS: &str = "servers.json";

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(
        "this agent has not joined: `hetuflow agent token` on the server makes a token; write it to a file, and \
         [agent] join_token = {{ file = \"..\" }}"
    )]
    NotJoined,
    #[error("cannot read the join token {}", .path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("{}: {source}", .path.display())]
    Token { path: PathBuf, source: NoToken },
    #[error("{} cannot be used: {reason}", .path.display())]
    Servers { path: PathBuf, reason: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

/// Why an agent would not talk to a server.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Server(#[from] io::Error),
}

/// What came of joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Joined {
    /// The key that joined, in `agent.pem`.
    key: Fingerprint,
    /// Hash of the token, so that another one in the configuration is seen to be another.
    token: Fingerprint,
    /// Of all servers of the database, as the last of them said.
    servers: Vec<Fingerprint>,
}

pub(crate) struct Keys {
    data_dir: PathBuf,
    token: Option<JoinToken>,
    authorities: Option<Arc<RootCertStore>>,
    joined: Mutex<Option<Joined>>,
}

impl Keys {
    /// `None`: no server is dialled with TLS.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, KeysError> {
        if !config.server_urls().iter().any(|url| is_tls(url)) {
            return Ok(None);
        }
        let Agent { data_dir, join_token, ca, .. } = &config.agent;
        let joined = read_joined(data_dir)?;
        let token = match join_token {
            Some(source) => read_token(source, joined.is_some())?,
            None => None,
        };
        if joined.is_none() && token.is_none() {
            return Err(KeysError::NotJoined);
        }
        let authorities = ca.as_deref().map(authorities).transpose()?;
        Ok(Some(Self { data_dir: data_dir.clone(), token, authorities, joined: Mutex::new(joined) }))
    }

    /// For the next connection; and what to say first on it, when its key is not known yet.
    pub(crate) fn connector(&self, agent_id: &AgentId) -> Result<(Connector, Option<Join>), KeysError> {
        let (file, pins, join) = match (self.new_token(), &*self.joined()) {
            (Some(token), _) => {
                let join = Join {
                    protocol: protocol::VERSION,
                    agent_id: agent_id.clone(),
                    token: TokenSecret(token.secret.0),
                };
                (NEW_KEY, token.servers.clone(), Some(join))
            }
            (None, Some(joined)) => (KEY, joined.servers.clone(), None),
            (None, None) => return Err(KeysError::NotJoined),
        };
        let path = self.data_dir.join(file);
        let identity = if join.is_some() { Identity::kept(&path)? } else { Identity::existing(&path)? };
        Ok((self.connect_as(&identity, pins)?, join))
    }

    /// For somebody who only looks whether a server is one that this agent knows: nothing is made, and no token shown. Says in words
    /// how far the agent is.
    fn looker(&self) -> Result<(Connector, &'static str), KeysError> {
        let (identity, pins, stage) = match (self.new_token(), &*self.joined()) {
            (Some(token), _) => {
                (Identity::passing()?, token.servers.clone(), "the agent joins at its next start")
            }
            (None, Some(joined)) => {
                let identity = Identity::existing(&self.data_dir.join(KEY))?;
                (identity, joined.servers.clone(), "the agent has joined")
            }
            (None, None) => return Err(KeysError::NotJoined),
        };
        Ok((self.connect_as(&identity, pins)?, stage))
    }

    fn connect_as(&self, identity: &Identity, pins: Vec<Fingerprint>) -> Result<Connector, KeysError> {
        let known = self.authorities.clone().map_or(Known::Pins(pins), Known::Authorities);
        Connector::new(identity, known).map_err(|error| KeysError::Tls(error.to_string()))
    }

    /// The server has taken the key that is about to join.
    pub(crate) fn has_joined(&self) -> Result<(), KeysError> {
        let Some(token) = self.new_token() else { return Ok(()) };
        let key = Identity::existing(&self.data_dir.join(NEW_KEY))?.fingerprint();
        // First this, and then the key's place: what is named here is found under either name.
        self.keep(Joined { key, token: hash_of(token), servers: token.servers.clone() })?;
        settle_key(&self.data_dir, key)
    }

    /// The keys of all servers, as one of them says. A list that cannot be kept is said again.
    pub(crate) fn learn(&self, servers: &[Fingerprint]) {
        let Some(joined) = self.joined().clone() else { return };
        if servers.is_empty() || joined.servers == servers {
            return;
        }
        tracing::info!(count = servers.len(), "the keys of the servers have changed");
        if let Err(error) = self.keep(Joined { servers: servers.to_vec(), ..joined }) {
            tracing::warn!(%error, "the keys of the servers are not kept");
        }
    }

    /// One that has not been used yet, here.
    fn new_token(&self) -> Option<&JoinToken> {
        let used = self.joined().as_ref().map(|joined| joined.token);
        self.token.as_ref().filter(|token| used != Some(hash_of(token)))
    }

    fn keep(&self, joined: Joined) -> Result<(), KeysError> {
        let path = self.data_dir.join(SERVERS);
        let cannot = |reason: String| KeysError::Servers { path: path.clone(), reason };
        let text = serde_json::to_string_pretty(&joined).map_err(|error| cannot(error.to_string()))?;
        keep_private(&path, text.as_bytes()).map_err(|error| cannot(error.to_string()))?;
        *self.joined() = Some(joined);
        Ok(())
    }

    fn joined(&self) -> std::sync::MutexGuard<'_, Option<Joined>> {
        // What is in it is replaced as a whole.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an agent with this configuration would talk to the server that answers on this connection, and what it is to it. It
/// changes nothing, here or there.
pub async fn look(config: &Config, host: &str, stream: TcpStream) -> Result<String, LookError> {
    let keys = Keys::open(config)?.ok_or(KeysError::NotJoined)?;
    let (connector, stage) = keys.looker()?;
    connector.connect(host, stream).await?;
    Ok(format!("it is a server that this agent knows; {stage}"))
}

pub(crate) fn is_tls(url: &str) -> bool {
    url.starts_with("wss://")
}

fn hash_of(token: &JoinToken) -> Fingerprint {
    Fingerprint(hetuflow_trust::hash(&token.secret).0)
}

fn read_joined(data_dir: &Path) -> Result<Option<Joined>, KeysError> {
    let path = data_dir.join(SERVERS);
    let cannot = |reason: String| KeysError::Servers { path: path.clone(), reason };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error.to_string())),
    };
    let joined: Joined = serde_json::from_str(&text).map_err(|error| cannot(error.to_string()))?;
    settle_key(data_dir, joined.key)?;
    Ok(Some(joined))
}

/// A key that has joined gets its place, also when the agent died in between.
fn settle_key(data_dir: &Path, key: Fingerprint) -> Result<(), KeysError> {
    let (new, path) = (data_dir.join(NEW_KEY), data_dir.join(KEY));
    match Identity::existing(&new) {
        Ok(identity) if identity.fingerprint() == key => {
            let moved = fs::rename(&new, &path).and_then(|()| fs::File::open(data_dir)?.sync_all());
            moved.map_err(|error| KeysError::Servers { path, reason: error.to_string() })
        }
        Ok(_) | Err(IdentityError::NoKey { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The file of a token may go once the agent has joined.
fn read_token(source: &TokenSource, joined: bool) -> Result<Option<JoinToken>, KeysError> {
    let path = match source {
        TokenSource::Token(token) => return Ok(Some(token.clone())),
        TokenSource::File(path) => path,
    };
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() && joined => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|source| KeysError::Token { path: path.clone(), source }),
        Err(error) if joined && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeysError::TokenFile { path: path.clone(), source }),
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("joined", &*self.joined()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, token: Option<&JoinToken>) -> Config {
        let mut config = Config::new(dir, "wss://a:1").expect("a configuration");
        config.agent.join_token = token.cloned().map(TokenSource::Token);
        config
    }

    fn open(dir: &Path, token: Option<&JoinToken>) -> Keys {
        Keys::open(&config(dir, token)).expect("usable").expect("with TLS")
    }

    fn shown(dir: &Path) -> Fingerprint {
        Identity::existing(&dir.join(KEY)).expect("a key").fingerprint()
    }

    #[test]
    fn an_agent_joins_once_and_with_another_token_as_somebody_new() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = AgentId::new("web-1").expect("an id");
        assert!(matches!(Keys::open(&config(dir.path(), None)), Err(KeysError::NotJoined)));
        let token = JoinToken::make(vec![Fingerprint([1; 32])]);
        let keys = open(dir.path(), Some(&token));
        let said = keys.connector(&id).expect("a connector").1.expect("it joins first");
        assert_eq!((said.agent_id, said.token), (id.clone(), token.secret.clone()));
        keys.has_joined().expect("kept");
        assert_eq!(keys.connector(&id).expect("a connector").1, None);
        let first = shown(dir.path());
        keys.learn(&[Fingerprint([1; 32]), Fingerprint([2; 32])]);

        // The same token in the configuration, or none any more: nothing new.
        for token in [Some(&token), None] {
            let keys = open(dir.path(), token);
            assert_eq!(keys.connector(&id).expect("a connector").1, None);
            assert_eq!(keys.joined().as_ref().map(|joined| joined.servers.len()), Some(2));
        }
        let other = JoinToken::make(vec![Fingerprint([3; 32])]);
        let keys = open(dir.path(), Some(&other));
        assert!(keys.connector(&id).expect("a connector").1.is_some());
        keys.has_joined().expect("kept");
        assert_ne!(shown(dir.path()), first);
    }

    #[test]
    fn a_key_that_joined_before_a_crash_gets_its_place_after_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = JoinToken::make(vec![Fingerprint([1; 32])]);
        let keys = open(dir.path(), Some(&token));
        keys.connector(&AgentId::new("web-1").expect("an id")).expect("a connector");
        let key = Identity::existing(&dir.path().join(NEW_KEY)).expect("made").fingerprint();
        keys.keep(Joined { key, token: hash_of(&token), servers: token.servers.clone() }).expect("kept");
        open(dir.path(), Some(&token));
        assert_eq!(shown(dir.path()), key);
    }

    #[test]
    fn a_token_file_is_needed_until_the_agent_has_joined() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        let mut config = config(dir.path(), None);
        config.agent.join_token = Some(TokenSource::File(file.clone()));
        assert!(matches!(Keys::open(&config), Err(KeysError::TokenFile { .. })));
        fs::write(&file, "hetuflow-join-x").expect("written");
        let error = Keys::open(&config).expect_err("no token").to_string();
        assert!(error.contains("no join token") && !error.contains("join-x"), "{error}");
        fs::write(&file, JoinToken::make(vec![Fingerprint([1; 32])]).reveal()).expect("written");
        let keys = Keys::open(&config).expect("usable").expect("with TLS");
        keys.connector(&AgentId::new("a").expect("an id")).expect("a connector");
        keys.has_joined().expect("kept");
        fs::remove_file(&file).expect("removed");
        assert!(Keys::open(&config).is_ok());
    }
}
