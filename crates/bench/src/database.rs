//! The PostgreSQL of a run, seen from outside: fresh databases, the log written, the processor time used.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row, postgres::PgConnectOptions,
};

use tokio::time::{interval, timeout};

use crate::{
    monotonic,
    processor::{self, Whose},
};

/// What a look costs is small beside what is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where `cargo xtask bench` says which PostgreSQL it has started.
const VARIABLE: &str = "HETUFLOW_TEST_POSTGRES";

/// What a reader wants to know of how it is set.
const TOLD: [&str; 8] = [
    "server_version",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "wal_compression",
];

pub(crate) struct Cluster {
    url: String,
    admin: PgConnection,
    postmaster: u32,
}

impl Cluster {
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let url =
            std::env::var(VARIABLE).context("run this as `cargo xtask bench`, which starts a PostgreSQL")?;
        let options: PgConnectOptions = url.parse().context("the URL of a PostgreSQL")?;
        let admin = options.connect().await.context("PostgreSQL does not answer")?;
        let mut cluster = Self { url, admin, postmaster: 0 };
        let folder: String = cluster.ask("show data_directory").await?;
        let file = PathBuf::from(folder).join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        cluster.postmaster = text.lines().next().unwrap_or_default().trim().parse()?;
        Ok(cluster)
    }

    /// An empty database of this name, on a cluster that has nothing left to write of the one before.
    pub(crate) async fn fresh(&mut self, name: &str) -> anyhow::Result<String> {
        self.tell(format!("drop database if exists {name} with (force)")).await?;
        self.tell(format!("create database {name}")).await?;
        self.tell("checkpoint".to_owned()).await?;
        Ok(self.url_of(name))
    }

    pub(crate) async fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.tell(format!("drop database if exists {name} with (force)")).await
    }

    /// A look into one of its databases.
    pub(crate) async fn watch(&self, name: &str) -> anyhow::Result<Watch> {
        let options: PgConnectOptions = self.url_of(name).parse()?;
        Ok(Watch(options.connect().await?))
    }

    fn url_of(&self, name: &str) -> String {
        self.url.replacen("/postgres?", &format!("/{name}?"), 1)
    }

    /// Bytes of log written so far.
    pub(crate) async fn log_written(&mut self) -> anyhow::Result<f64> {
        self.ask("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8").await
    }

    /// Microseconds of processor time, all of its processes.
    pub(crate) fn used(&self) -> anyhow::Result<f64> {
        processor::used(Whose::Family(self.postmaster))
    }

    pub(crate) async fn settings(&mut self) -> anyhow::Result<String> {
        let mut told = Vec::new();
        for name in TOLD {
            let value: String = self.ask(&format!("show {name}")).await?;
            told.push(format!("{name} {value}"));
        }
        Ok(told.join(", "))
    }

    async fn tell(&mut self, statement: String) -> anyhow::Result<()> {
        self.admin.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    async fn ask<T>(&mut self, question: &str) -> anyhow::Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let row = sqlx::query(AssertSqlSafe(question.to_owned())).fetch_one(&mut self.admin).await?;
        Ok(row.try_get(0)?)
    }

    pub(crate) async fn close(self) {
        // The cluster goes away with the run.
        let _ = self.admin.close().await;
    }
}

/// One connection to a database that somebody else works in.
pub(crate) struct Watch(PgConnection);

impl Watch {
    /// Looks until the question is answered with false; says when.
    pub(crate) async fn until_none(
        &mut self,
        question: &'static str,
        within: Duration,
    ) -> anyhow::Result<u64> {
        let mut look = interval(LOOK_EVERY);
        let search = async {
            loop {
                look.tick().await;
                let some: bool = sqlx::query_scalar(question).fetch_one(&mut self.0).await?;
                if !some {
                    return anyhow::Ok(monotonic::now());
                }
            }
        };
        timeout(within, search).await.context("there is work left in the database")?
    }

    /// Keeps what everybody sees now from being cleaned away, until it is closed.
    pub(crate) async fn hold_snapshot(&mut self) -> anyhow::Result<()> {
        self.0.execute("begin isolation level repeatable read; select count(*) from pg_class").await?;
        Ok(())
    }

    pub(crate) async fn close(self) {
        // Its database is removed next.
        let _ = self.0.close().await;
    }
}
