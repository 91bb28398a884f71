//! Agents and their sessions on PostgreSQL. The database's clock is `now()`. A session's row is locked before
//! any task of its agent: a claim that is under way ends first, and a hello then finds what it took.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::{
    agent::{Agent, Duty},
    id::{AgentId, ServerId, TaskId},
    labels::Labels,
    protocol::{Hello, Kept},
    status::Status,
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;
use sqlx::{postgres::PgArguments, query::Query};

use super::{
    Postgres, Tx,
    columns::{at, text, time},
    key::admit,
    leader::guard,
    retrying,
    task::attempt::{end_attempts, lost, return_attempt},
};
use crate::{
    AgentStore, Arrival, Finish, Leadership, Session, StoreError,
    row::{self, Columns},
    settle,
};

#[async_trait]
impl AgentStore for Postgres {
    async fn open_session(
        &self,
        arrival: Arrival<'_>,
        server_id: ServerId,
        lease: Duration,
        now: Timestamp,
        random: f64,
    ) -> Result<Session, StoreError> {
        let session = retrying!(open_session(self, arrival, None, server_id, lease, now, random))?;
        self.tasks_changed();
        Ok(session)
    }

    async fn replace_journal(
        &self,
        arrival: Arrival<'_>,
        known: i64,
        server_id: ServerId,
        lease: Duration,
        now: Timestamp,
        random: f64,
    ) -> Result<Session, StoreError> {
        let session = retrying!(open_session(self, arrival, Some(known), server_id, lease, now, random))?;
        self.tasks_changed();
        Ok(session)
    }

    async fn renew_sessions(
        &self,
        server_id: ServerId,
        sessions: &[(AgentId, i64)],
        lease: Duration,
    ) -> Result<Vec<AgentId>, StoreError> {
        let renewed = retrying!(renew(self, server_id, sessions, lease))?;
        let gone = sessions.iter().filter(|(agent_id, _)| !renewed.iter().any(|id| id == agent_id.as_str()));
        Ok(gone.map(|(agent_id, _)| agent_id.clone()).collect())
    }

    async fn close_session(&self, agent_id: &AgentId, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "update sched_agent set online = false, session_until = least(session_until, now())
             where id = $1 and session_epoch = $2",
        )
        .bind(agent_id.as_str())
        .bind(epoch)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn reap(
        &self,
        leadership: Leadership,
        resume: Duration,
        now: Timestamp,
        random: f64,
        limit: u32,
    ) -> Result<Vec<TaskId>, StoreError> {
        let tasks = retrying!(reap(self, leadership, resume, now, random, limit))?;
        if !tasks.is_empty() {
            self.tasks_changed();
        }
        Ok(tasks)
    }

    async fn agent(&self, id: &AgentId) -> Result<Agent, StoreError> {
        let row = sqlx::query(
            "select a.*, k.fingerprint, k.joined_at,
                (select max(r.revoked_at) from sched_agent_key r where r.agent_id = a.id) as revoked_at,
                a.online and a.session_until > now() as connected,
                (select count(*) from sched_task t where t.agent_id = a.id and t.status in (5, 8, 10)) as running
             from sched_agent a
             left join sched_agent_key k on k.agent_id = a.id and k.revoked_at is null
             where a.id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?
        .ok_or(StoreError::NotFound)?;
        row::agent(&row)
    }

    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        // Ids are ASCII: the order of bytes, as on SQLite, whatever the database's language.
        let rows = sqlx::query(
            "select a.*, k.fingerprint, k.joined_at,
                (select max(r.revoked_at) from sched_agent_key r where r.agent_id = a.id) as revoked_at,
                a.online and a.session_until > now() as connected,
                (select count(*) from sched_task t where t.agent_id = a.id and t.status in (5, 8, 10)) as running
             from sched_agent a
             left join sched_agent_key k on k.agent_id = a.id and k.revoked_at is null
             order by a.id collate \"C\"",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(row::agent).collect()
    }

    async fn set_watermark(
        &self,
        agent_id: &AgentId,
        epoch: i64,
        key: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "update sched_agent set watermarks = watermarks || jsonb_build_object($1::text, $2::bigint)
             where id = $3 and session_epoch = $4",
        )
        .bind(key)
        .bind(at.as_microsecond())
        .bind(agent_id.as_str())
        .bind(epoch)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn set_duty(&self, id: &AgentId, duty: Duty) -> Result<Agent, StoreError> {
        let drained =
            sqlx::query("update sched_agent set drained = $1 where id = $2").bind(duty == Duty::Drained);
        decide(self, id, drained).await
    }

    async fn set_labels(&self, id: &AgentId, labels: &Labels) -> Result<Agent, StoreError> {
        let update = "update sched_agent set labels = $1::text::json where id = $2";
        decide(self, id, sqlx::query(update).bind(row::json(labels)?)).await
    }
}

/// What somebody has decided about an agent: the statement lacks its id.
async fn decide(
    db: &Postgres,
    id: &AgentId,
    update: Query<'_, sqlx::Postgres, PgArguments>,
) -> Result<Agent, StoreError> {
    if update.bind(id.as_str()).execute(&db.pool).await?.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    db.tasks_changed();
    db.agent(id).await
}

/// `replaces` is the session epoch at which another journal may take over.
async fn open_session(
    db: &Postgres,
    arrival: Arrival<'_>,
    replaces: Option<i64>,
    server_id: ServerId,
    lease: Duration,
    now: Timestamp,
    random: f64,
) -> Result<Session, StoreError> {
    let Arrival { hello, key } = arrival;
    let mut tx = db.begin().await?;
    admit(&mut tx, &hello.agent_id, key).await?;
    let same_journal = continues(&mut tx, hello, replaces).await?;
    let mut session = upsert(&mut tx, hello, server_id, lease, now).await?;
    let mut losses: Vec<Finish> = Vec::new();
    for (lease, status) in leased(&mut tx, &hello.agent_id).await? {
        let held = same_journal && hello.held.iter().any(|held| held.lease == lease);
        if held {
            session.keep.push(keep(&mut tx, lease).await?);
        } else if same_journal && status == Status::Locked {
            return_attempt(&mut tx, lease, now).await?;
            session.returned.push(lease.task_id);
        } else {
            let outcome = if same_journal { settle::not_in_journal() } else { settle::journal_replaced() };
            losses.push(lost(lease, outcome, now));
            session.lost.push(lease.task_id);
        }
    }
    end_attempts(&mut tx, &losses, now, random).await?;
    failpoint!("hello.before_commit");
    tx.commit().await?;
    failpoint!("hello.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    session.stop = not_kept(hello, &session.keep);
    Ok(session)
}

/// Whether the hello's journal is the one that the store knows, one hello later. An agent that the store
/// does not know has no leases here, whatever it holds. Locks the session.
async fn continues(tx: &mut Tx, hello: &Hello, replaces: Option<i64>) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "select journal_id, journal_epoch, session_epoch from sched_agent where id = $1 for update",
    )
    .bind(hello.agent_id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let grew = row::signed(hello.journal_epoch) > row.int("journal_epoch")?;
    let session_epoch = row.int("session_epoch")?;
    match grew && row.uuid("journal_id")? == hello.journal_id.uuid() {
        true => Ok(true),
        false if replaces == Some(session_epoch) => Ok(false),
        false => Err(StoreError::InDoubt { session_epoch }),
    }
}

/// Yields the session with its new epoch, and nothing settled.
async fn upsert(
    tx: &mut Tx,
    hello: &Hello,
    server_id: ServerId,
    lease: Duration,
    now: Timestamp,
) -> Result<Session, StoreError> {
    let row = sqlx::query(
        "insert into sched_agent as a (id, hostname, version, labels, slots, journal_id, journal_epoch,
            session_epoch, server_id, session_until, online, first_seen_at, last_seen_at)
         values ($1, $2, $3, $4::text::json, $5, $6, $7, 1, $8, now() + $9 * interval '1 microsecond', true, $10, $10)
         on conflict (id) do update set hostname = excluded.hostname, version = excluded.version,
            labels = excluded.labels, slots = excluded.slots, journal_id = excluded.journal_id,
            journal_epoch = excluded.journal_epoch, session_epoch = a.session_epoch + 1, watermarks = '{}',
            server_id = excluded.server_id, session_until = excluded.session_until, online = true,
            last_seen_at = excluded.last_seen_at
         returning session_epoch, drained",
    )
    .bind(hello.agent_id.as_str())
    .bind(text(&hello.hostname))
    .bind(text(&hello.version))
    .bind(row::json(&hello.labels)?)
    .bind(i64::from(hello.slots))
    .bind(hello.journal_id.uuid())
    .bind(row::signed(hello.journal_epoch))
    .bind(server_id.uuid())
    .bind(row::micros(lease))
    .bind(time(now))
    .fetch_one(&mut **tx)
    .await?;
    Ok(Session {
        epoch: row.int("session_epoch")?,
        duty: row::duty(&row)?,
        keep: Vec::new(),
        stop: Vec::new(),
        lost: Vec::new(),
        returned: Vec::new(),
    })
}

/// What the store leases to the agent. Not read in the order of the ids as they are locked: a result that waits for the
/// same tasks may have to be tried again.
async fn leased(tx: &mut Tx, agent_id: &AgentId) -> Result<Vec<(Lease, Status)>, StoreError> {
    let rows = sqlx::query(
        "select id, instance_id, fence, status from sched_task
         where agent_id = $1 and status in (5, 8, 10) order by id for update",
    )
    .bind(agent_id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok((row::lease(row)?, row::status(row, "status")?))).collect()
}

/// The attempt goes on; its output goes on at the first gap.
async fn keep(tx: &mut Tx, lease: Lease) -> Result<Kept, StoreError> {
    let row = sqlx::query(
        "select coalesce(min(candidate), 0) as next_seq from (
            select 0 as candidate where not exists
                (select 1 from sched_task_output where instance_id = $1 and created_at = $2 and seq = 0)
            union all
            select o.seq + 1 from sched_task_output o where o.instance_id = $1 and o.created_at = $2 and not exists
                (select 1 from sched_task_output n where n.instance_id = $1 and n.created_at = $2 and n.seq = o.seq + 1)
         ) gap",
    )
    .bind(lease.instance_id.uuid())
    .bind(at(lease.instance_id.uuid()))
    .fetch_one(&mut **tx)
    .await?;
    Ok(Kept { lease, next_seq: row::number(&row, "next_seq")? })
}

fn not_kept(hello: &Hello, keep: &[Kept]) -> Vec<Lease> {
    let held = hello.held.iter().map(|held| held.lease);
    held.filter(|lease| !keep.iter().any(|kept| kept.lease == *lease)).collect()
}

/// Yields those that are renewed.
async fn renew(
    db: &Postgres,
    server_id: ServerId,
    sessions: &[(AgentId, i64)],
    lease: Duration,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "with own as materialized (
            select a.id from sched_agent a
            join unnest($1::text[], $2::bigint[]) as u(id, epoch) on a.id = u.id and a.session_epoch = u.epoch
            where a.server_id = $3 and a.online order by a.id for no key update of a
         )
         update sched_agent set session_until = now() + $4 * interval '1 microsecond',
            last_seen_at = now()
         where id = any(array(select id from own)) returning id",
    )
    .bind(sessions.iter().map(|(agent_id, _)| agent_id.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|(_, epoch)| *epoch).collect::<Vec<_>>())
    .bind(server_id.uuid())
    .bind(row::micros(lease))
    .fetch_all(&db.pool)
    .await?)
}

/// Sessions that are being renewed at this moment are not judged; neither are tasks that somebody is just
/// reporting on.
async fn reap(
    db: &Postgres,
    leadership: Leadership,
    resume: Duration,
    now: Timestamp,
    random: f64,
    limit: u32,
) -> Result<Vec<TaskId>, StoreError> {
    let mut tx = db.begin().await?;
    guard(&mut tx, leadership).await?;
    let rows = sqlx::query(
        "with gone as materialized (
            select id from sched_agent where session_until + $1 * interval '1 microsecond' < now()
            order by id for no key update skip locked
         )
         select id, instance_id, fence, agent_id from sched_task
         where agent_id = any(array(select id from gone)) and status in (5, 8, 10)
         order by id limit $2 for update skip locked",
    )
    .bind(row::micros(resume))
    .bind(i64::from(limit))
    .fetch_all(&mut *tx)
    .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let losses = rows
        .iter()
        .map(|row| Ok(lost(row::lease(row)?, settle::session_ran_out(), now)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    end_attempts(&mut tx, &losses, now, random).await?;
    let agents = rows.iter().map(|row| row.text("agent_id")).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "update sched_agent set online = false, session_epoch = session_epoch + 1 where id = any($1)",
    )
    .bind(agents)
    .execute(&mut *tx)
    .await?;
    failpoint!("reaper.before_commit");
    tx.commit().await?;
    failpoint!("reaper.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
    Ok(losses.iter().map(|finish| finish.lease.task_id).collect())
}
