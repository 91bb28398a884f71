//! Brings the schema up to date, in one transaction that holds the write lock.

use sqlx::SqlitePool;

use crate::{
    StoreError,
    migration::{SQLITE, pending},
};

pub(super) async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("begin immediate").await?;
    sqlx::query(
        "create table if not exists sched_migration \
         (version integer not null primary key, name text not null, applied_at integer not null) strict",
    )
    .execute(&mut *tx)
    .await?;
    let current: i64 = sqlx::query_scalar("select coalesce(max(version), 0) from sched_migration")
        .fetch_one(&mut *tx)
        .await?;
    for migration in pending(SQLITE, current)? {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        sqlx::query(
            "insert into sched_migration (version, name, applied_at) \
             values (?, ?, cast(unixepoch('now', 'subsec') * 1000000 as integer))",
        )
        .bind(migration.version)
        .bind(migration.name)
        .execute(&mut *tx)
        .await?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    tx.commit().await?;
    Ok(())
}
