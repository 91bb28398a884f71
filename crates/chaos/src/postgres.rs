//! The throw-away PostgreSQL of a run, as `cargo xtask` has started it: databases of our own on it, and restarts
//! without any chance to clean up.

use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};

#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    /// The folder with its socket, and its data below it.
    folder: PathBuf,
    binaries: PathBuf,
}

impl Postgres {
    /// `url` as in `HETUFLOW_TEST_POSTGRES`: its host is the cluster's folder.
    pub(crate) fn of(url: &str, binaries: &Path) -> anyhow::Result<Self> {
        let host = url.split_once("host=").and_then(|(_, rest)| rest.split('&').next());
        let folder = host.map(PathBuf::from).with_context(|| format!("no host in {url:?}"))?;
        Ok(Self { folder, binaries: binaries.to_owned() })
    }

    /// A new database; yields its URL.
    pub(crate) async fn create(&self, name: &str) -> anyhow::Result<String> {
        let folder = self.folder.as_os_str();
        let args: [&OsStr; 5] = ["-h".as_ref(), folder, "-U".as_ref(), "postgres".as_ref(), name.as_ref()];
        self.run("createdb", &args).await?;
        Ok(format!("postgres:///{name}?host={}&user=postgres", self.folder.display()))
    }

    /// Ends every backend at once and starts again, which replays the log as after a crash.
    pub(crate) async fn restart(&self) -> anyhow::Result<()> {
        let (data, log) = (self.folder.join("data"), self.folder.join("log"));
        let args: [&OsStr; 9] = [
            "-D".as_ref(),
            data.as_ref(),
            "-l".as_ref(),
            log.as_ref(),
            "-m".as_ref(),
            "immediate".as_ref(),
            "-w".as_ref(),
            "-s".as_ref(),
            "restart".as_ref(),
        ];
        self.run("pg_ctl", &args).await
    }

    /// As the cluster's owner, because PostgreSQL refuses root.
    async fn run(&self, program: &str, args: &[&OsStr]) -> anyhow::Result<()> {
        let owner = std::fs::metadata(self.folder.join("data"))?;
        #[expect(clippy::disallowed_methods, reason = "PostgreSQL's own programs")]
        let mut command = tokio::process::Command::new(self.binaries.join(program));
        // Their output is not piped: the server that pg_ctl leaves behind would hold the pipe open.
        command.args(args).current_dir(&self.folder).env_clear().env("LC_ALL", "C");
        command.env("PATH", &self.binaries).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let status = command.status().await.with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("{program} ended with {status}; the cluster is in {}", self.folder.display());
        }
        Ok(())
    }
}
