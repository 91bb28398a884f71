//! A PostgreSQL for one run of tests or benchmarks: found or installed, started on a Unix socket in a directory of its
//! own, and gone afterwards, however the run ends.

mod cluster;
mod find;
mod install;

pub(crate) use cluster::{Cluster, Use};

/// Tests read the URL of their database here.
pub(crate) const VARIABLE: &str = "HETUFLOW_TEST_POSTGRES";

/// Where its programs are, for those who restart it.
pub(crate) const PROGRAMS: &str = "HETUFLOW_TEST_POSTGRES_PROGRAMS";

/// A command that prepares the cluster, not the one under test.
fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    #[expect(clippy::disallowed_methods, reason = "PostgreSQL's own programs, and apt-get")]
    std::process::Command::new(program)
}
