//! What every article about queues in PostgreSQL shows: one table, a partial index, `for update skip locked`.

use anyhow::Context;
use async_trait::async_trait;
use sqlx::{ConnectOptions, Executor, PgConnection, postgres::PgConnectOptions};

use super::Queue;
use crate::payload;

const TABLE: &str = "
create table job (id bigint generated always as identity primary key, status smallint not null default 1,
    run_at timestamptz not null default now(), payload text not null);
create index job_claim on job (run_at, id) where status = 1";

pub(super) struct Textbook {
    connection: PgConnection,
    taken: Vec<i64>,
}

impl Textbook {
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("the URL of a PostgreSQL")?;
        let mut connection = options.connect().await?;
        connection.execute(TABLE).await?;
        Ok(Self { connection, taken: Vec::new() })
    }
}

#[async_trait]
impl Queue for Textbook {
    async fn add(&mut self, count: u32) -> anyhow::Result<()> {
        let body = String::from_utf8(payload::body(0))?;
        sqlx::query("insert into job (payload) select $1 from generate_series(1, $2)")
            .bind(body)
            .bind(i64::from(count))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    async fn claim(&mut self, count: u32) -> anyhow::Result<usize> {
        self.taken = sqlx::query_scalar(
            "update job set status = 2 where id in (select id from job where status = 1 and run_at <= now()
             order by run_at, id limit $1 for update skip locked) returning id",
        )
        .bind(i64::from(count))
        .fetch_all(&mut self.connection)
        .await?;
        Ok(self.taken.len())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        sqlx::query("update job set status = 3 where id = any($1)")
            .bind(std::mem::take(&mut self.taken))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
