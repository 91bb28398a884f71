//! A private key in a file of its owner alone: PEM, mode 0600, written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the key {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot keep a key in {}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the key {} can be read by everybody: take that right away (`chmod o= {}`), and think of a new key", .path.display(), .path.display())]
    Open { path: PathBuf },
    #[error("{} holds no private key in PEM", .path.display())]
    NoKey { path: PathBuf },
}

/// `None`: there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if mode & 0o007 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned() });
    }
    let text = fs::read(path).map_err(unreadable)?;
    PrivateKeyDer::from_pem_slice(&text).map(Some).map_err(|_| KeyFileError::NoKey { path: path.to_owned() })
}

/// Durable when it returns: what is known by this key would be lost with it.
pub(crate) fn write(path: &Path, pkcs8: &[u8]) -> Result<(), KeyFileError> {
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for line in STANDARD.encode(pkcs8).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    keep_private(path, pem.as_bytes())
        .map_err(|source| KeyFileError::Unwritable { path: path.to_owned(), source })
}

/// Writes a file of its owner alone, whole or not at all, durably; makes the folder (mode 0700) when there is none.
pub fn keep_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Left by a crash, perhaps with other rights.
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_everybody_can_read_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tls/key.pem");
        assert!(matches!(read(&path), Ok(None)));
        write(&path, &[48, 1, 2]).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        assert!(matches!(read(&path), Ok(Some(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("chmod o="), "{error}");
        keep_private(&path, b"no key").expect("written");
        assert!(matches!(read(&path), Err(KeyFileError::NoKey { .. })));
    }
}
