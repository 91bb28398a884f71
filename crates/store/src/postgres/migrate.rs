//! Brings the schema up to date, in one transaction. Servers that start together take turns.

use sqlx::PgPool;

use crate::{
    StoreError,
    migration::{POSTGRES, pending},
};

/// Also what [`super::partition`] waits for: nobody else in this database takes this number.
pub(super) const LOCK: i64 = 0x6865_7475_666c_6f77;

pub(super) async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    // Another server may migrate a large table for longer than any other statement is allowed.
    sqlx::query("set local statement_timeout = 0").execute(&mut *tx).await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    let known: bool =
        sqlx::query_scalar("select to_regclass('sched_migration') is not null").fetch_one(&mut *tx).await?;
    // Not `if not exists`: that asks for the right to create even where there is nothing to create.
    if !known {
        sqlx::query(
            "create table sched_migration (version bigint not null primary key, name text not null, \
             applied_at timestamptz not null)",
        )
        .execute(&mut *tx)
        .await?;
    }
    let current: i64 = sqlx::query_scalar("select coalesce(max(version), 0) from sched_migration")
        .fetch_one(&mut *tx)
        .await?;
    for migration in pending(POSTGRES, current)? {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        sqlx::query("insert into sched_migration (version, name, applied_at) values ($1, $2, now())")
            .bind(migration.version)
            .bind(migration.name)
            .execute(&mut *tx)
            .await?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    tx.commit().await?;
    Ok(())
}
