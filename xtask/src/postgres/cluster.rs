//! The life of the throw-away cluster.
//!
//! A shell of its own process group, the keeper, makes the cluster, reads its standard input, and at the
//! end of it stops the cluster and removes the folder. The other end of that pipe is ours: whether we
//! return, panic or are killed with `kill -9`, the keeper sees the end. Commits are durable as in
//! production (no `fsync=off`), because hetuflow refuses a database that can lose them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::{command, find};

/// `$1` is the folder; PostgreSQL's binaries come first on `PATH`. `immediate`, because nobody will read what
/// a checkpoint would save.
const KEEPER: &str = r#"
trap '' INT TERM HUP
leave() { rm -rf "$1"; exit "$2"; }
initdb -D "$1/data" -U postgres -E UTF8 --locale=C --no-sync --auth-local=trust --auth-host=reject >"$1/log" 2>&1 &&
pg_ctl -D "$1/data" -l "$1/log" -w -t 60 -s -o "-k '$1' $2" start </dev/null >/dev/null 2>&1 ||
{ tail -n 20 "$1/log" >&2; leave "$1" 1; }
echo ready
read -r end
pg_ctl -D "$1/data" -m immediate -w -s stop >/dev/null 2>&1
leave "$1" 0
"#;

/// No network, and enough connections for many test processes at once.
const SETTINGS: &str = "-c listen_addresses= -c unix_socket_permissions=0700 -c max_connections=500 \
    -c log_min_messages=warning";

/// What the cluster is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// Many small databases.
    Tests,
    /// One database at a time, with the memory and the room for its log that a production server would be given. The
    /// rest is as PostgreSQL ships it; above all, commits are durable.
    Benchmarks,
}

impl Use {
    const fn settings(self) -> &'static str {
        match self {
            Self::Tests => "-c shared_buffers=64MB",
            Self::Benchmarks => "-c shared_buffers=512MB -c max_wal_size=4GB",
        }
    }
}

/// A running PostgreSQL; dropping it stops it and removes it from the disk.
pub(crate) struct Cluster {
    url: String,
    programs: PathBuf,
    keeper: Child,
    /// The keeper waits for the end of this.
    alive: Option<ChildStdin>,
    /// Removed by the keeper as a rule, by us if the keeper could not.
    _folder: TempDir,
}

impl Cluster {
    pub(crate) fn start(purpose: Use) -> anyhow::Result<Self> {
        let binaries = find::find()?;
        let owner = Owner::choose()?;
        let folder = owner.folder()?;
        eprintln!(
            "PostgreSQL {} ({}) in {}",
            binaries.version,
            binaries.folder.display(),
            folder.path().display()
        );

        let mut keeper =
            keeper(&binaries.folder, &folder, owner, purpose).spawn().context("cannot run /bin/sh")?;
        let alive = keeper.stdin.take();
        let mut ready = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready).context("lost the keeper of PostgreSQL")?;
        }
        let url = format!("postgres:///postgres?host={}&user=postgres", folder.path().display());
        let mut cluster = Self { url, programs: binaries.folder, keeper, alive, _folder: folder };
        if ready.trim() != "ready" {
            bail!("PostgreSQL did not start:\n{}", cluster.complaint());
        }
        Ok(cluster)
    }

    /// For `HETUFLOW_TEST_POSTGRES`: a superuser on the socket; tests make databases of their own.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The folder of `pg_ctl` and its kind.
    pub(crate) fn programs(&self) -> &std::path::Path {
        &self.programs
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.keeper.stderr {
            // A complaint that cannot be read leaves the message without its details.
            drop(stderr.take(64 * 1024).read_to_string(&mut text));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.alive.take());
        match self.keeper.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("the keeper of PostgreSQL ended with {status}"),
            Err(error) => eprintln!("cannot wait for the keeper of PostgreSQL: {error}"),
        }
    }
}

fn keeper(binaries: &std::path::Path, folder: &TempDir, owner: Owner, purpose: Use) -> Command {
    let mut command = command("/bin/sh");
    command
        .args(["-c", KEEPER, "keeper"])
        .arg(folder.path())
        .arg(format!("{SETTINGS} {}", purpose.settings()))
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binaries.display()))
        .env("LC_ALL", "C")
        .current_dir(folder.path())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Owner::Postgres { uid, gid } = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// Who runs the cluster: PostgreSQL refuses root.
#[derive(Clone, Copy)]
enum Owner {
    Ourselves,
    Postgres { uid: u32, gid: u32 },
}

impl Owner {
    fn choose() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        user(&users, "postgres").map(|(uid, gid)| Self::Postgres { uid, gid }).context(
            "PostgreSQL does not run as root, and there is no user `postgres` to run it: \
             make one (`useradd --system postgres`) or run this as another user",
        )
    }

    /// Only its owner (and root) can reach the socket in it, so that `trust` is no invitation.
    fn folder(self) -> anyhow::Result<TempDir> {
        let parent = match self {
            Self::Ourselves => std::env::temp_dir(),
            // Root's own TMPDIR may be closed to others.
            Self::Postgres { .. } => PathBuf::from("/tmp"),
        };
        // A socket's path has at most 107 bytes.
        let parent = if parent.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { parent };
        let folder = tempfile::Builder::new()
            .prefix("hetuflow-postgres-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        if let Self::Postgres { uid, gid } = self {
            chown(folder.path(), Some(uid), Some(gid)).context("cannot give the folder to user postgres")?;
        }
        Ok(folder)
    }
}

/// The numbers of a user and its group in the text of `/etc/passwd`.
fn user(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next() == Some(name);
        found.then_some(fields)
    })?;
    fields.next();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn users_are_found_by_their_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(super::user(users, "postgres"), Some((101, 104)));
        assert_eq!(super::user(users, "nobody"), None);
    }
}
