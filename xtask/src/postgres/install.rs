//! Installs PostgreSQL's server programs with apt-get, for machines that are prepared by nobody (CI).
//! Only as root, and without the cluster that the package would otherwise make and start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};

use super::command;

/// Read by the package's installation: a file of ours in its folder of additions.
const SETTINGS: &str = "/etc/postgresql-common/createcluster.d/hetuflow-tests.conf";

pub(super) fn allowed() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists()
}

pub(super) fn install() -> anyhow::Result<()> {
    eprintln!("PostgreSQL is missing; installing its package");
    apt_get(&["update", "--quiet"])?;
    // First the package that says how clusters are made, then our word against one, then the server.
    apt_get(&["install", "--quiet", "--yes", "--no-install-recommends", "postgresql-common"])?;
    let settings = NoCluster::write()?;
    let installed = apt_get(&["install", "--quiet", "--yes", "--no-install-recommends", "postgresql"]);
    drop(settings);
    installed
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let status = command("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "`apt-get {}` failed ({status})", args.join(" "));
    Ok(())
}

/// The setting, for as long as the installation runs: the machine's owner may want clusters later.
struct NoCluster(PathBuf);

impl NoCluster {
    fn write() -> anyhow::Result<Self> {
        let path = PathBuf::from(SETTINGS);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, "create_main_cluster = false\n")
        };
        write().with_context(|| format!("cannot write {SETTINGS}"))?;
        Ok(Self(path))
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
