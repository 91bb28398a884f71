//! From a reference in a trigger file to the secret itself. The loader of triggers resolves them when it
//! builds a set, when one of their files has changed, and each minute, so that a rotated secret takes effect without a reload.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use hetuflow_core::trigger::SecretRef;
use hetuflow_signature::Secret;

/// Larger files are not secrets.
const MAX_FILE: u64 = 64 * 1024;

/// Yields the secret of a name, if it has or makes one.
pub type SecretSource = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where secrets are looked up.
#[derive(Clone, Default)]
pub(crate) struct Vault {
    /// For variables that the process's own environment lacks.
    fallback: Option<SecretSource>,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    credentials: Option<PathBuf>,
}

/// Why there is no secret. For the owner of the hook; never shown to a sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("secret env {0} is not set")]
    NotSet(String),
    #[error("secret {0} is empty")]
    Empty(String),
    #[error("secret {0} cannot be read: {1}")]
    Unreadable(String, String),
    #[error("secret credential {0:?} is not there: the unit has no LoadCredential= for it")]
    NoCredential(String),
    #[error("it is published and no secret")]
    Published,
    #[error("secret {0} cannot be used: {1}")]
    Unusable(String, String),
}

impl SecretError {
    /// It is there, but the scheme that it is for cannot use it.
    pub(crate) fn unusable(reference: &SecretRef, why: String) -> Self {
        Self::Unusable(describe(reference), why)
    }
}

impl Vault {
    pub(crate) fn new(fallback: Option<SecretSource>) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self { fallback, credentials }
    }

    /// Reads files: not for an async thread.
    pub(crate) fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let bytes = match reference {
            SecretRef::Env(name) => self.variable(name)?,
            SecretRef::File(path) => read(&format!("file {path}"), Path::new(path))?,
            SecretRef::Credential(name) => self.credential(name)?,
            // Asked for when a delivery needs it.
            SecretRef::Url(_) => return Err(SecretError::Published),
        };
        if bytes.trim_ascii().is_empty() {
            return Err(SecretError::Empty(describe(reference)));
        }
        Ok(Secret::new(bytes))
    }

    /// The file that a secret is read from, if it is read from one.
    pub(crate) fn file(&self, reference: &SecretRef) -> Option<PathBuf> {
        match reference {
            SecretRef::File(path) => Some(PathBuf::from(path)),
            SecretRef::Credential(name) => Some(self.credentials.as_ref()?.join(name)),
            SecretRef::Env(_) | SecretRef::Url(_) => None,
        }
    }

    fn variable(&self, name: &str) -> Result<Vec<u8>, SecretError> {
        if let Some(value) = std::env::var_os(name) {
            return Ok(OsString::into_encoded_bytes(value));
        }
        let made = self.fallback.as_ref().and_then(|source| source(name));
        made.map(String::into_bytes).ok_or_else(|| SecretError::NotSet(name.to_owned()))
    }

    fn credential(&self, name: &str) -> Result<Vec<u8>, SecretError> {
        let missing = || SecretError::NoCredential(name.to_owned());
        let directory = self.credentials.as_ref().ok_or_else(missing)?;
        // A name, not a path: a credential lies directly in its directory.
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(missing());
        }
        read(&format!("credential {name}"), &directory.join(name))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable(what.to_owned(), reason);
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Creates a file for its owner alone, whole or not at all.
pub(crate) fn create(path: &str, secret: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let path = Path::new(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", uuid::Uuid::now_v7()));
    let new = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(secret)?;
    file.sync_all()?;
    // Fails where the name exists, unlike a rename.
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    linked
}

/// Why a secret is not to be had in this process's environment; nothing where it is.
#[must_use]
pub fn unresolved(reference: &SecretRef) -> Option<String> {
    if matches!(reference, SecretRef::Url(_)) {
        return None;
    }
    Vault::new(None).resolve(reference).err().map(|error| error.to_string())
}

/// Where it is kept, in words: `env DEPLOY_SECRET`.
pub(crate) fn describe(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Env(name) => format!("env {name}"),
        SecretRef::File(path) => format!("file {path}"),
        SecretRef::Credential(name) => format!("credential {name}"),
        SecretRef::Url(url) => format!("url {url}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(name: &'static str, secret: &'static str) -> Vault {
        let source: SecretSource = Arc::new(move |asked| (asked == name).then(|| secret.to_owned()));
        Vault { fallback: Some(source), credentials: None }
    }

    fn problem(vault: &Vault, reference: &SecretRef) -> Option<String> {
        vault.resolve(reference).err().map(|error| error.to_string())
    }

    #[test]
    fn what_the_environment_lacks_comes_from_the_fallback_and_what_is_missing_is_named() {
        let vault = only("HETUFLOW_A", "s");
        assert_eq!(problem(&vault, &SecretRef::Env("HETUFLOW_A".to_owned())), None);
        let missing = SecretRef::Env("HETUFLOW_NO_SUCH_SECRET".to_owned());
        assert_eq!(
            problem(&vault, &missing).as_deref(),
            Some("secret env HETUFLOW_NO_SUCH_SECRET is not set")
        );
    }

    #[test]
    fn empty_is_no_secret() {
        let vault = only("HETUFLOW_A", " \n");
        assert_eq!(
            problem(&vault, &SecretRef::Env("HETUFLOW_A".to_owned())).as_deref(),
            Some("secret env HETUFLOW_A is empty")
        );
    }

    #[test]
    fn files_and_credentials() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "top\n").expect("it can be written");
        let vault = Vault { fallback: None, credentials: Some(folder.path().to_owned()) };
        let path = folder.path().join("key");
        assert_eq!(read("file", &path), Ok(b"top".to_vec()));
        assert_eq!(problem(&vault, &SecretRef::File(path.display().to_string())), None);
        assert_eq!(problem(&vault, &SecretRef::Credential("key".to_owned())), None);
        assert!(problem(&vault, &SecretRef::Credential("../key".to_owned())).is_some());
        assert!(problem(&vault, &SecretRef::Credential("other".to_owned())).is_some());
    }
}
