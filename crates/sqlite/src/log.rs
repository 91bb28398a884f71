//! The room of a file's log. A commit that makes its log longer waits for the file system's own journal besides its data:
//! on ext4 twice as long as one that writes over what is there. SQLite keeps the length of a log that it begins anew, so
//! only the time until then is slow, which on a quiet machine is days.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What is written at a time.
const PIECE: usize = 64 * 1024;

/// Gives the file a log of that many bytes, empty to SQLite, unless it has one. For a database that holds something: beside
/// an empty one SQLite removes a log. Whatever goes wrong costs time only.
pub fn lay_log(file: &Path, bytes: usize) {
    if let Err(error) = lay(file, bytes) {
        tracing::debug!(file = %file.display(), error = %error, "the log gets its room as it grows");
    }
}

fn lay(file: &Path, bytes: usize) -> io::Result<()> {
    let (log, new) = (beside(file, "-wal"), beside(file, "-wal.new"));
    if log.try_exists()? {
        return Ok(());
    }
    let done = fill(&new, file, bytes).and_then(|()| {
        // Never in the place of one that another process has made meanwhile.
        fs::hard_link(&new, &log)
    });
    fs::remove_file(&new)?;
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// With the mode of the database, as SQLite makes it.
fn fill(new: &Path, file: &Path, bytes: usize) -> io::Result<()> {
    let mode = fs::metadata(file)?.permissions();
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    out.set_permissions(fs::Permissions::from_mode(mode.mode() & 0o777))?;
    let zeros = vec![0; PIECE.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE);
        out.write_all(&zeros[..piece])?;
        left -= piece;
    }
    out.sync_all()
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name: OsString = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions, Connection, SqliteConnection};

    use super::*;
    use crate::options;

    const ROOM: usize = 1024 * 1024;

    async fn open(file: &Path) -> SqliteConnection {
        options(file).connect().await.expect("it opens")
    }

    async fn add(connection: &mut SqliteConnection, row: i64) {
        sqlx::query("insert into t values (?)").bind(row).execute(connection).await.expect("a row");
    }

    async fn rows(connection: &mut SqliteConnection) -> Vec<i64> {
        sqlx::query_scalar("select * from t order by 1").fetch_all(connection).await.expect("rows")
    }

    /// A database with one row, closed: it has no log.
    async fn database(file: &Path) {
        let mut connection = open(file).await;
        sqlx::raw_sql("create table t (x integer)").execute(&mut connection).await.expect("a table");
        add(&mut connection, 1).await;
        connection.close().await.expect("closed");
        assert!(!beside(file, "-wal").exists());
    }

    fn length(log: &Path) -> u64 {
        fs::metadata(log).expect("a log").len()
    }

    #[tokio::test]
    async fn commits_fill_the_room_and_survive_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, copy) = (folder.path().join("a.db"), folder.path().join("b.db"));
        database(&file).await;
        lay_log(&file, ROOM);
        let log = beside(&file, "-wal");
        assert_eq!(length(&log), ROOM as u64);
        assert!(!beside(&file, "-wal.new").exists());

        let mut connection = open(&file).await;
        assert_eq!(rows(&mut connection).await, [1]);
        add(&mut connection, 2).await;
        assert_eq!(length(&log), ROOM as u64, "no longer than before");
        // What a power cut leaves.
        for end in ["", "-wal"] {
            fs::copy(beside(&file, end), beside(&copy, end)).expect("a copy");
        }
        assert_eq!(rows(&mut open(&copy).await).await, [1, 2]);
        assert_eq!(rows(&mut connection).await, [1, 2]);
    }

    #[tokio::test]
    async fn a_log_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        database(&file).await;
        let mut connection = open(&file).await;
        add(&mut connection, 2).await;
        let before = fs::read(beside(&file, "-wal")).expect("a log");
        lay_log(&file, ROOM);
        assert_eq!(fs::read(beside(&file, "-wal")).expect("a log"), before);
    }

    #[tokio::test]
    async fn what_a_killed_start_left_is_no_hindrance() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        database(&file).await;
        fs::write(beside(&file, "-wal.new"), vec![7; 2 * ROOM]).expect("a leftover");
        lay_log(&file, ROOM);
        assert_eq!(length(&beside(&file, "-wal")), ROOM as u64);
        assert_eq!(rows(&mut open(&file).await).await, [1]);
    }

    #[test]
    fn a_place_without_a_database_gets_none() {
        let folder = tempfile::tempdir().expect("a folder");
        lay_log(&folder.path().join("none.db"), ROOM);
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}
