//! Partitions of the tables that grow, made ahead at the start of a server and by the leader. What finds none goes to
//! the default partition, so a server that slept for weeks still ingests; nothing depends on this.
//!
//! What is large and found by its id (events, output) has one partition for each day, so that age and bytes are
//! kept to the day. What is searched (tasks and attempts: by lane, event, status) has one for each week, because
//! every search looks into each of them.

use sqlx::PgPool;

use super::{Postgres, Tx, leader::guard, migrate::LOCK};
use crate::{Leadership, StoreError};

/// Rows that are moved out of the default partition to make place for a partition of their own, at most: nobody can
/// use the table meanwhile.
const MOVED_AT_MOST: i64 = 10_000;

/// The partitions from now on that are missing: of four days, of three weeks.
const MISSING: &str = "
select count(*) from (values ('sched_event', 'day', 3), ('sched_task', 'week', 2),
    ('sched_attempt', 'week', 2), ('sched_task_output', 'day', 3)) p(parent, width, ahead)
cross join lateral generate_series(0, p.ahead) n
where to_regclass(p.parent || to_char((date_trunc(p.width, now(), 'UTC') + n * ('1 ' || p.width)::interval)
    at time zone 'UTC', '_YYYY_MM_DD')) is null";

/// Each is made apart and attached, which lets readers and writers of other partitions go on. Where the default
/// partition holds rows of the new one, they move, and for that moment nobody else uses the table: a statement that
/// had planned without the new partition would miss them. Nothing here waits for long.
const MAKE: &str = "
do $$
declare
    p record;
    part text;
    first timestamptz;
    last timestamptz;
    strays bigint;
begin
    set local lock_timeout = '500ms';
    -- A row that fits into a page stays whole: to move what is over 2 KB into a table of its own costs a quarter of storing it.
    -- An attempt's end finds room beside its beginning, and then no index has to know of it.
    for p in select * from (values ('sched_event', 'day', 3, 100), ('sched_task', 'week', 2, 100),
        ('sched_attempt', 'week', 2, 90), ('sched_task_output', 'day', 3, 100)) v(parent, width, ahead, fill)
    loop
        for n in 0..p.ahead loop
            first := date_trunc(p.width, now(), 'UTC') + n * ('1 ' || p.width)::interval;
            last := first + ('1 ' || p.width)::interval;
            part := p.parent || to_char(first at time zone 'UTC', '_YYYY_MM_DD');
            continue when to_regclass(part) is not null;
            begin
                execute format('select count(*) from (select from %I where created_at >= %L and created_at < %L limit %s) s',
                    p.parent || '_default', first, last, :most + 1) into strays;
                continue when strays > :most;
                execute format('create table %I (like %I including all) with (fillfactor = %s, toast_tuple_target = 8160)', part, p.parent, p.fill);
                if strays > 0 then
                    execute format('lock table %I in access exclusive mode', p.parent);
                    execute format('with stray as (delete from %I where created_at >= %L and created_at < %L returning *)
                        insert into %I select * from stray', p.parent || '_default', first, last, part);
                end if;
                execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                    p.parent, part, first, last);
            exception when check_violation or lock_not_available or deadlock_detected then
                raise warning '% is not made: %', part, sqlerrm;
            end;
        end loop;
    end loop;
end $$";

/// At the start of a server, whoever leads. Servers that start together take turns.
pub(super) async fn ensure_partitions(pool: &PgPool) -> Result<(), StoreError> {
    if missing(pool).await? > 0 {
        let mut tx = pool.begin().await?;
        make(&mut tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Yields how many are still missing.
pub(super) async fn prepare(db: &Postgres, leadership: Leadership) -> Result<u64, StoreError> {
    if missing(&db.pool).await? == 0 {
        return Ok(0);
    }
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    make(&mut tx).await?;
    tx.commit().await?;
    missing(&db.pool).await
}

async fn missing(pool: &PgPool) -> Result<u64, StoreError> {
    let missing: i64 = sqlx::query_scalar(MISSING).fetch_one(pool).await?;
    Ok(missing.unsigned_abs())
}

async fn make(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut **tx).await?;
    let statement = MAKE.replace(":most", &MOVED_AT_MOST.to_string());
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut **tx).await?;
    Ok(())
}
