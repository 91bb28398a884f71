//! Opens the connections, checks the database, brings the schema up to date and makes partitions ahead.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Postgres, fitness, migrate, notify::TaskChanges, partition, warm::Warm};
use crate::{Options, Store, StoreError, lanes::Lanes};

/// How long a caller waits for a free connection before it is told that the database is busy.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn open(options: &Options) -> Result<Arc<dyn Store>, StoreError> {
    let connect = settings(&options.url)?;
    let pool = connect_all(&connect, options.pool_size.max(2)).await?;
    let version = fitness::check(&pool).await?;
    migrate::migrate(&pool).await?;
    partition::ensure_partitions(&pool).await?;
    let changes = TaskChanges::start(&connect);
    let warm = Warm::of(pool.options().get_max_connections());
    Ok(Arc::new(Postgres { pool, warm, changes, lanes: Lanes::default(), version }))
}

/// Nothing is migrated.
pub(crate) async fn examine(options: &Options) -> Result<String, StoreError> {
    let connect = settings(&options.url)?;
    // At once, where a pool would try on for a while.
    connect.connect().await.map_err(explain)?.close().await?;
    let pool = connect_all(&connect, 1).await?;
    let version = fitness::check(&pool).await?;
    pool.close().await;
    Ok(format!("PostgreSQL {version}"))
}

async fn connect_all(connect: &PgConnectOptions, size: u32) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE);
    pool.connect_with(connect.clone()).await.map_err(explain)
}

/// A database with its schema and partitions, and nothing that looks after it.
#[cfg(test)]
pub(super) async fn ensure(url: &str) -> Result<PgPool, StoreError> {
    let pool = connect_all(&settings(url)?, 2).await?;
    migrate::migrate(&pool).await?;
    partition::ensure_partitions(&pool).await?;
    Ok(pool)
}

pub(super) fn settings(url: &str) -> Result<PgConnectOptions, StoreError> {
    let parsed = PgConnectOptions::from_str(url).map_err(|error| {
        // The URL may hold a password: it is not repeated.
        StoreError::Unfit(format!(
            "the database URL cannot be read ({error}); write postgres://USER@HOST:5432/DATABASE"
        ))
    })?;
    let named = parsed.get_application_name().is_some();
    let parsed = if named { parsed } else { parsed.application_name("hetuflow") };
    Ok(parsed
        // No statement of ours is meant to take long; one that does must not hold locks for ever.
        .options([("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "30s")])
        // Plans are made once: with partitions, planning took half of the database's time (measured: 39 % less of it
        // for each task, and half the latency). Such a plan must not be one that suited a table that was empty.
        .options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")])
        .disable_statement_logging())
}

/// Says what to do about a database that refuses us; one that is away may come back.
fn explain(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|inner| inner.code().map(std::borrow::Cow::into_owned));
    match (code.as_deref(), &error) {
        (Some("3D000"), _) => StoreError::Unfit(format!("{error}: make it with `createdb -E UTF8 NAME`")),
        (Some("28000" | "28P01"), _) => {
            StoreError::Unfit(format!("PostgreSQL refuses the user: {error}; check the URL and pg_hba.conf"))
        }
        (_, sqlx::Error::Configuration(_)) => {
            StoreError::Unfit(format!("the database URL cannot be used: {error}"))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_not_repeated() {
        let error = settings("postgres://me:hunter2@host:port/db").expect_err("no port");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
