//! Agents and their sessions on SQLite. The database's clock is SQLite's own `now`.

use std::{collections::BTreeSet, time::Duration};

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
use sqlx::{query::Query, sqlite::SqliteArguments};

use super::{
    Sqlite, Tx,
    key::admit,
    leader::guard,
    task::attempt::{end_attempts, lost, return_attempt},
};
use crate::{
    AgentStore, Arrival, Leadership, Session, StoreError,
    row::{self, Columns},
    settle,
};

/// The index is named for the same reason as that of [`super::task::CANCELLING`].
pub(super) const RUN_OUT: &str = "select t.id, t.instance_id, t.fence, t.agent_id \
    from sched_task t indexed by sched_task_leased cross join sched_agent a \
    where a.id = t.agent_id and t.status in (5, 8, 10) \
    and a.session_until + ? < cast(unixepoch('now', 'subsec') * 1000000 as integer) order by t.id limit ?";

#[async_trait]
impl AgentStore for Sqlite {
    async fn open_session(
        &self,
        arrival: Arrival<'_>,
        server_id: ServerId,
        lease: Duration,
        now: Timestamp,
        random: f64,
    ) -> Result<Session, StoreError> {
        let session = open_session(self, arrival, None, server_id, lease, now, random).await?;
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
        let session = open_session(self, arrival, Some(known), server_id, lease, now, random).await?;
        self.tasks_changed();
        Ok(session)
    }

    async fn renew_sessions(
        &self,
        server_id: ServerId,
        sessions: &[(AgentId, i64)],
        lease: Duration,
    ) -> Result<Vec<AgentId>, StoreError> {
        let mut tx = self.begin().await?;
        let mut gone = Vec::new();
        for (agent_id, epoch) in sessions {
            let renewed = sqlx::query(
                "update sched_agent set \
                 session_until = cast(unixepoch('now', 'subsec') * 1000000 as integer) + ?, \
                 last_seen_at = cast(unixepoch('now', 'subsec') * 1000000 as integer) \
                 where id = ? and session_epoch = ? and server_id = ? and online = 1",
            )
            .bind(row::micros(lease))
            .bind(agent_id.as_str())
            .bind(*epoch)
            .bind(server_id.uuid())
            .execute(&mut *tx)
            .await?;
            if renewed.rows_affected() == 0 {
                gone.push(agent_id.clone());
            }
        }
        tx.commit().await?;
        Ok(gone)
    }

    async fn close_session(&self, agent_id: &AgentId, epoch: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "update sched_agent set online = 0, \
             session_until = min(session_until, cast(unixepoch('now', 'subsec') * 1000000 as integer)) \
             where id = ? and session_epoch = ?",
        )
        .bind(agent_id.as_str())
        .bind(epoch)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
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
        let mut tx = self.begin().await?;
        guard(&mut tx, leadership).await?;
        let rows =
            sqlx::query(RUN_OUT).bind(row::micros(resume)).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let losses = rows
            .iter()
            .map(|row| Ok(lost(row::lease(row)?, settle::session_ran_out(), now)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        end_attempts(&mut tx, &losses, now, random).await?;
        let agents = rows.iter().map(|row| row.text("agent_id")).collect::<Result<BTreeSet<_>, _>>()?;
        sqlx::query(
            "update sched_agent set online = false, session_epoch = session_epoch + 1 \
             where id in (select value from json_each(?))",
        )
        .bind(row::json(&agents)?)
        .execute(&mut *tx)
        .await?;
        failpoint!("reaper.before_commit");
        tx.commit().await?;
        failpoint!("reaper.after_commit", StoreError::Unavailable(sqlx::Error::WorkerCrashed));
        self.tasks_changed();
        Ok(losses.iter().map(|finish| finish.lease.task_id).collect())
    }

    async fn agent(&self, id: &AgentId) -> Result<Agent, StoreError> {
        let row = sqlx::query(
            "select a.*, k.fingerprint, k.joined_at, \
             (select max(r.revoked_at) from sched_agent_key r where r.agent_id = a.id) as revoked_at, \
             (a.online = 1 and a.session_until > cast(unixepoch('now', 'subsec') * 1000000 as integer)) as connected, \
             (select count(*) from sched_task t where t.agent_id = a.id and t.status in (5, 8, 10)) as running \
             from sched_agent a \
             left join sched_agent_key k on k.agent_id = a.id and k.revoked_at is null where a.id = ?",
        )
        .bind(id.as_str())
        .fetch_optional(&self.readers)
        .await?
        .ok_or(StoreError::NotFound)?;
        row::agent(&row)
    }

    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let rows = sqlx::query(
            "select a.*, k.fingerprint, k.joined_at, \
             (select max(r.revoked_at) from sched_agent_key r where r.agent_id = a.id) as revoked_at, \
             (a.online = 1 and a.session_until > cast(unixepoch('now', 'subsec') * 1000000 as integer)) as connected, \
             (select count(*) from sched_task t where t.agent_id = a.id and t.status in (5, 8, 10)) as running \
             from sched_agent a \
             left join sched_agent_key k on k.agent_id = a.id and k.revoked_at is null order by a.id",
        )
        .fetch_all(&self.readers)
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
        let mut tx = self.begin().await?;
        sqlx::query(
            "update sched_agent set watermarks = json_patch(watermarks, json_object(?, ?)) \
             where id = ? and session_epoch = ?",
        )
        .bind(key)
        .bind(at.as_microsecond())
        .bind(agent_id.as_str())
        .bind(epoch)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn set_duty(&self, id: &AgentId, duty: Duty) -> Result<Agent, StoreError> {
        let drained =
            sqlx::query("update sched_agent set drained = ? where id = ?").bind(duty == Duty::Drained);
        decide(self, id, drained).await
    }

    async fn set_labels(&self, id: &AgentId, labels: &Labels) -> Result<Agent, StoreError> {
        let labels = sqlx::query("update sched_agent set labels = ? where id = ?").bind(row::json(labels)?);
        decide(self, id, labels).await
    }
}

/// What somebody has decided about an agent: the statement lacks its id.
async fn decide(
    db: &Sqlite,
    id: &AgentId,
    update: Query<'_, sqlx::Sqlite, SqliteArguments>,
) -> Result<Agent, StoreError> {
    let mut tx = db.begin().await?;
    if update.bind(id.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    tx.commit().await?;
    db.tasks_changed();
    db.agent(id).await
}

/// `replaces` is the session epoch at which another journal may take over.
async fn open_session(
    db: &Sqlite,
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
    let mut losses = Vec::new();
    for (lease, status) in leased(&mut tx, &hello.agent_id).await? {
        if same_journal && hello.held.iter().any(|held| held.lease == lease) {
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

/// Whether the hello's journal is the one that the store knows, one hello later. An agent that the store does not
/// know has no leases here, whatever it holds.
async fn continues(tx: &mut Tx, hello: &Hello, replaces: Option<i64>) -> Result<bool, StoreError> {
    let row = sqlx::query("select journal_id, journal_epoch, session_epoch from sched_agent where id = ?")
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
        "insert into sched_agent as a (id, hostname, version, labels, slots, journal_id, journal_epoch, \
         session_epoch, server_id, session_until, online, first_seen_at, last_seen_at) \
         values (?, ?, ?, ?, ?, ?, ?, 1, ?, cast(unixepoch('now', 'subsec') * 1000000 as integer) + ?, 1, ?10, ?10) \
         on conflict (id) do update set hostname = excluded.hostname, version = excluded.version, \
         labels = excluded.labels, slots = excluded.slots, journal_id = excluded.journal_id, \
         journal_epoch = excluded.journal_epoch, session_epoch = a.session_epoch + 1, watermarks = '{}', \
         server_id = excluded.server_id, session_until = excluded.session_until, online = 1, \
         last_seen_at = excluded.last_seen_at returning session_epoch, drained",
    )
    .bind(hello.agent_id.as_str())
    .bind(&hello.hostname)
    .bind(&hello.version)
    .bind(row::json(&hello.labels)?)
    .bind(hello.slots)
    .bind(hello.journal_id.uuid())
    .bind(row::signed(hello.journal_epoch))
    .bind(server_id.uuid())
    .bind(row::micros(lease))
    .bind(now.as_microsecond())
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

/// What the store leases to the agent.
async fn leased(tx: &mut Tx, agent_id: &AgentId) -> Result<Vec<(Lease, Status)>, StoreError> {
    let rows = sqlx::query(
        "select id, instance_id, fence, status from sched_task \
         where agent_id = ? and status in (5, 8, 10) order by id",
    )
    .bind(agent_id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok((row::lease(row)?, row::status(row, "status")?))).collect()
}

/// The attempt goes on; its output goes on at the first gap.
async fn keep(tx: &mut Tx, lease: Lease) -> Result<Kept, StoreError> {
    let row = sqlx::query(
        "select coalesce(min(candidate), 0) as next_seq from ( \
         select 0 as candidate where not exists \
         (select 1 from sched_task_output where instance_id = ?1 and seq = 0) \
         union all select o.seq + 1 from sched_task_output o where o.instance_id = ?1 and not exists \
         (select 1 from sched_task_output n where n.instance_id = o.instance_id and n.seq = o.seq + 1))",
    )
    .bind(lease.instance_id.uuid())
    .fetch_one(&mut **tx)
    .await?;
    Ok(Kept { lease, next_seq: row::number(&row, "next_seq")? })
}

fn not_kept(hello: &Hello, keep: &[Kept]) -> Vec<Lease> {
    let held = hello.held.iter().map(|held| held.lease);
    held.filter(|lease| !keep.iter().any(|kept| kept.lease == *lease)).collect()
}
