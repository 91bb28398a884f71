//! Partitions by month for the tables that grow, made ahead when a server starts. What finds none goes to the
//! default partition, so a server that nobody restarts keeps working; nothing depends on this.

use sqlx::PgPool;

use super::migrate::LOCK;
use crate::StoreError;

/// Makes the partitions of this month and the three after it that are missing.
///
/// A month that the default partition already holds rows of stays there: moving them would block writers.
/// Taking the default partition's lock must not make a running server wait for long either, so that after two
/// seconds the next start has to do it.
pub(super) async fn ensure_partitions(pool: &PgPool) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    sqlx::raw_sql(
        "do $$
        declare
            parent text;
            part text;
            first timestamptz;
        begin
            set local lock_timeout = '2s';
            foreach parent in array array['sched_event', 'sched_task', 'sched_task_instance'] loop
                for n in 0..3 loop
                    first := date_trunc('month', now(), 'UTC') + make_interval(months => n);
                    part := parent || to_char(first at time zone 'UTC', '_YYYY_MM');
                    continue when to_regclass(part) is not null;
                    begin
                        execute format(
                            'create table %I partition of %I for values from (%L) to (%L)',
                            part, parent, first, first + interval '1 month'
                        );
                    exception when check_violation or lock_not_available then
                        raise warning '% is not made: %', part, sqlerrm;
                    end;
                end loop;
            end loop;
        end $$",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
