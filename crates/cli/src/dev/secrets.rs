//! Secrets that `hetuflow dev` makes for hooks whose environment variable is not set: random, kept in
//! `secrets.toml` of the data directory (mode 0600), so that they stay the same from start to start.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rand::{Rng as _, distr::Alphanumeric};

use crate::error::CliError;

/// Characters of a secret: about 190 bits.
const LENGTH: usize = 32;

#[derive(Clone)]
pub(crate) struct DevSecrets {
    path: PathBuf,
    made: BTreeMap<String, String>,
}

impl DevSecrets {
    /// What was made before; nothing when there is no such file.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, CliError> {
        let path = data_dir.join("secrets.toml");
        let made = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(CliError::Read { path, source }),
        };
        Ok(Self { path, made })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.made.get(name).map(String::as_str)
    }

    /// The secret of this name; makes it at its first mention.
    pub(crate) fn ensure(&mut self, name: &str) -> Result<String, CliError> {
        if let Some(made) = self.made.get(name) {
            return Ok(made.clone());
        }
        let secret: String = rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect();
        self.made.insert(name.to_owned(), secret.clone());
        self.write()?;
        Ok(secret)
    }

    fn write(&self) -> Result<(), CliError> {
        let mut text = String::from(
            "# Made by `hetuflow dev` for hooks whose variable is not set in its environment.\n",
        );
        for (name, secret) in &self.made {
            // Names of variables and alphanumeric secrets need no escaping.
            let _ = writeln!(text, "{name} = \"{secret}\"");
        }
        let cannot = |source| CliError::Io(format!("cannot write {}", self.path.display()), source);
        let fresh = self.path.with_extension("toml.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(cannot)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)?;
        fs::rename(&fresh, &self.path).map_err(cannot)
    }
}
