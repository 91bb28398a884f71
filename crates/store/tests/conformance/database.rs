//! A database of its own for each promise: a file, or a database in the cluster that the test run started.

use std::{path::Path, sync::Arc};

use hetuflow_core::{Clock, id::ServerId};
use hetuflow_store::{Options, Store, open};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::plans;

const VARIABLE: &str = "HETUFLOW_TEST_POSTGRES";

pub(crate) struct Db {
    pub(crate) store: Arc<dyn Store>,
    url: String,
}

impl Db {
    async fn open(url: String) -> Self {
        let store = open(&Options { url: url.clone(), pool_size: 10 }).await.expect("the database opens");
        Self { store, url }
    }

    /// A connection of the test's own to the same PostgreSQL database.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("PostgreSQL answers")
    }

    /// A second server on the same database.
    pub(crate) async fn another(&self) -> Arc<dyn Store> {
        Self::open(self.url.clone()).await.store
    }
}

pub(crate) async fn on_sqlite(promise: impl AsyncFn(&Db)) {
    plans::record();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Db::open(sqlite_url(folder.path())).await;
    promise(&db).await;
    db.store.close().await;
    plans::check().await;
}

fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}/test.db", folder.display())
}

pub(crate) async fn on_postgres(promise: impl AsyncFn(&Db)) {
    let Ok(cluster) = std::env::var(VARIABLE) else {
        panic!("{VARIABLE} is not set: run `cargo xtask test`, which starts a throw-away PostgreSQL");
    };
    let name = format!("hetuflow_{}", ServerId::at(Clock::system().now()).uuid().simple());
    administer(&cluster, format!("create database {name}")).await;
    let db = Db::open(named(&cluster, &name)).await;
    promise(&db).await;
    db.store.close().await;
    administer(&cluster, format!("drop database {name} with (force)")).await;
}

async fn administer(cluster: &str, statement: String) {
    let mut connection = PgConnection::connect(cluster).await.expect("the cluster answers");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a database of our own");
    connection.close().await.expect("the connection closes");
}

/// The cluster's URL with another database: the last segment of its path.
fn named(cluster: &str, database: &str) -> String {
    let (address, query) = cluster.split_once('?').unwrap_or((cluster, ""));
    let (server, _) = address.rsplit_once('/').expect("a URL with a path");
    format!("{server}/{database}?{query}")
}
