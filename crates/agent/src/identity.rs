//! The data directory: who owns it now (a lock) and which agent it belongs to (its id). First step
//! of [`crate::run`]; everything else that is kept there belongs to another module.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::id::AgentId;
use rustix::fs::FlockOperation;
use tokio::time::{Instant, sleep};

use crate::config::Config;

const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use the data directory {}", .path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "another agent runs with the data directory {}: stop it, or give this one its own [agent] data_dir",
        .path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "the data directory {} belongs to the agent {kept:?} but [agent] id is {configured:?}: \
         write that id, or give this agent its own data_dir",
        .path.display()
    )]
    Foreign { path: PathBuf, kept: String, configured: String },
    #[error("{} holds {text:?}, which is no agent id", .path.display())]
    Corrupt { path: PathBuf, text: String },
}

/// The right to use the data directory: the lock is held until this is dropped, also by `kill -9`.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) agent_id: AgentId,
    _lock: File,
}

/// Claims the directory, waiting a moment for a lock that nobody means: after `kill -9` of an agent it is held on by a
/// child that was between fork and exec, which has every descriptor of its parent.
pub(crate) async fn claim_patiently(
    data_dir: &Path,
    configured: Option<&AgentId>,
) -> Result<Identity, IdentityError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match claim(data_dir, configured) {
            Err(IdentityError::Locked { .. }) if Instant::now() < deadline => sleep(LOCK_RETRY).await,
            claimed => return claimed,
        }
    }
}

fn claim(data_dir: &Path, configured: Option<&AgentId>) -> Result<Identity, IdentityError> {
    let unusable = |source| IdentityError::Unusable { path: data_dir.to_owned(), source };
    create_dir(data_dir).map_err(unusable)?;
    let lock = open_private(&data_dir.join("lock")).map_err(unusable)?;
    if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        return Err(match error {
            rustix::io::Errno::WOULDBLOCK => IdentityError::Locked { path: data_dir.to_owned() },
            other => unusable(other.into()),
        });
    }
    let agent_id = kept_id(data_dir, configured)?;
    // What jobs are given is nobody else's business: others may pass through the directory, but not read these.
    // SQLite gives its log files the permissions of the file itself.
    for file in ["journal.db", "watch.db"] {
        open_private(&data_dir.join(file)).map_err(unusable)?;
    }
    Ok(Identity { agent_id, _lock: lock })
}

/// The name that an agent with this configuration has, made and kept if this is its first start. For whoever
/// embeds an agent and waits for it; fails where another agent runs with the same data directory.
pub async fn agent_id(config: &Config) -> Result<AgentId, IdentityError> {
    Ok(claim_patiently(&config.agent.data_dir, config.agent.id.as_ref()).await?.agent_id)
}

/// Makes a directory that others may pass through (a job under another user reaches its own
/// directory below it) but not read.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(path)
}

fn kept_id(data_dir: &Path, configured: Option<&AgentId>) -> Result<AgentId, IdentityError> {
    let path = data_dir.join("agent_id");
    let unusable = |source| IdentityError::Unusable { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let text = text.trim();
            let kept = AgentId::new(text)
                .map_err(|_| IdentityError::Corrupt { path: path.clone(), text: text.to_owned() })?;
            match configured {
                Some(configured) if *configured != kept => Err(IdentityError::Foreign {
                    path: data_dir.to_owned(),
                    kept: kept.into(),
                    configured: configured.to_string(),
                }),
                _ => Ok(kept),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = configured.cloned().unwrap_or_else(new_id);
            keep(&path, &id).map_err(unusable)?;
            Ok(id)
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Through a second name, so that a crash leaves either no id or the whole one.
fn keep(path: &Path, id: &AgentId) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = open_private(&new)?;
    file.set_len(0)?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// The host's name alone would give two agents of one host the same id, and each would take the
/// other's session away.
fn new_id() -> AgentId {
    let host = rustix::system::uname();
    let id = format!("{}-{:06x}", host_part(&host.nodename().to_string_lossy()), rand::random::<u32>() >> 8);
    AgentId::new(id).unwrap_or_else(|_| unreachable!("host_part leaves only what an id may hold"))
}

fn host_part(host: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = host.chars().map(kept).take(48).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "agent".to_owned() } else { name.to_owned() }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_let_go_of_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = claim(dir.path(), None).expect("claimed");
        let waiting = claim_patiently(dir.path(), None);
        tokio::pin!(waiting);
        let first = futures_util::poll!(&mut waiting);
        assert!(first.is_pending(), "{first:?}");
        let id = held.agent_id.clone();
        drop(held);
        assert_eq!(waiting.await.expect("claimed").agent_id, id);
    }

    #[test]
    fn what_is_kept_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let _identity = claim(dir.path(), None).expect("claimed");
        for file in ["journal.db", "watch.db", "agent_id", "lock"] {
            let mode = fs::metadata(dir.path().join(file)).expect("there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file}");
        }
    }

    #[test]
    fn the_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = claim(dir.path(), None).expect("claimed").agent_id;
        assert_eq!(claim(dir.path(), None).expect("claimed").agent_id, first);
    }

    #[test]
    fn one_agent_per_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = claim(dir.path(), None).expect("claimed");
        assert!(matches!(claim(dir.path(), None), Err(IdentityError::Locked { .. })));
        drop(held);
        assert!(claim(dir.path(), None).is_ok());
    }

    #[test]
    fn a_directory_keeps_its_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = |text| AgentId::new(text).expect("an id");
        assert_eq!(claim(dir.path(), Some(&id("a"))).expect("claimed").agent_id, id("a"));
        let error = claim(dir.path(), Some(&id("b"))).expect_err("another agent's");
        assert!(matches!(error, IdentityError::Foreign { .. }), "{error}");
    }

    #[test]
    fn any_host_name_makes_an_id() {
        let check = |host: &str, expected: &str| assert_eq!(host_part(host), expected, "{host:?}");
        check("web-1.example", "web-1.example");
        check("Käthe", "K-the");
        check("-x", "x");
        check("", "agent");
    }
}
