//! Keys and join tokens on SQLite. The database's clock is SQLite's own `now`.

use std::time::Duration;

use async_trait::async_trait;
use hetuflow_core::{
    agent::ServerKey,
    fingerprint::{Fingerprint, TokenHash},
    id::AgentId,
};
use jiff::Timestamp;

use super::{Sqlite, Tx};
use crate::{
    Joined, KeyStore, NewToken, NotJoined, StoreError,
    row::{self, Columns},
};

#[async_trait]
impl KeyStore for Sqlite {
    async fn make_token(&self, token: &NewToken, valid: Duration) -> Result<Timestamp, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "delete from sched_join_token where expires_at < (unixepoch('now') - 30 * 86400) * 1000000",
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(
            "insert into sched_join_token (hash, labels, agent_id, made_at, expires_at) \
             values (?, ?, ?, cast(unixepoch('now', 'subsec') * 1000000 as integer), \
             cast(unixepoch('now', 'subsec') * 1000000 as integer) + ?) returning expires_at",
        )
        .bind(token.hash.0.as_slice())
        .bind(token.labels.as_ref().map(row::json).transpose()?)
        .bind(token.agent_id.as_ref().map(AgentId::as_str))
        .bind(row::micros(valid))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        row.time("expires_at")
    }

    async fn join(
        &self,
        token: TokenHash,
        key: Fingerprint,
        agent_id: &AgentId,
    ) -> Result<Result<Joined, NotJoined>, StoreError> {
        let joined = join(self, token, key, agent_id).await?;
        if joined.is_ok() {
            self.tasks_changed();
        }
        Ok(joined)
    }

    async fn joined(&self, key: Fingerprint) -> Result<Option<Joined>, StoreError> {
        let row = sqlx::query(
            "select agent_id, labels, joined_at from sched_agent_key where fingerprint = ? and revoked_at is null",
        )
        .bind(key.0.as_slice())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| row::joined(&row)).transpose()
    }

    async fn revoke(&self, agent_id: &AgentId) -> Result<Fingerprint, StoreError> {
        let revoked = revoke(self, agent_id).await?;
        self.tasks_changed();
        Ok(revoked)
    }

    async fn know_server(&self, key: Fingerprint) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "insert into sched_server_key (fingerprint, first_seen_at, last_seen_at) \
             values (?, cast(unixepoch('now', 'subsec') * 1000000 as integer), \
             cast(unixepoch('now', 'subsec') * 1000000 as integer)) \
             on conflict (fingerprint) do update set last_seen_at = excluded.last_seen_at",
        )
        .bind(key.0.as_slice())
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn server_keys(&self) -> Result<Vec<Fingerprint>, StoreError> {
        let rows = sqlx::query(
            "select fingerprint from sched_server_key \
             where last_seen_at > (unixepoch('now') - 30 * 86400) * 1000000 order by fingerprint",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| row::fingerprint(row, "fingerprint")).collect()
    }

    async fn servers(&self) -> Result<Vec<ServerKey>, StoreError> {
        let rows = sqlx::query(
            "select fingerprint, first_seen_at, last_seen_at from sched_server_key \
             order by last_seen_at desc, fingerprint",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(row::server_key).collect()
    }

    async fn forget_server(&self, key: Fingerprint) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("delete from sched_server_key where fingerprint = ?").bind(key.0.as_slice());
        let gone = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        if gone == 0 { Err(StoreError::NotFound) } else { Ok(()) }
    }
}

async fn join(
    db: &Sqlite,
    token: TokenHash,
    key: Fingerprint,
    agent_id: &AgentId,
) -> Result<Result<Joined, NotJoined>, StoreError> {
    let mut tx = db.begin().await?;
    let used = sqlx::query(
        "update sched_join_token set used_at = cast(unixepoch('now', 'subsec') * 1000000 as integer), used_by = ? \
         where hash = ? and used_at is null \
         and expires_at > cast(unixepoch('now', 'subsec') * 1000000 as integer) \
         and (agent_id is null or agent_id = ?) returning labels, agent_id",
    )
    .bind(key.0.as_slice())
    .bind(token.0.as_slice())
    .bind(agent_id.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(used) = used else { return why_not(&mut tx, token, key, agent_id).await };
    if used.text_or_null("agent_id")?.is_some() {
        take_back(&mut tx, agent_id).await?;
        end_session(&mut tx, agent_id).await?;
    } else if is_known(&mut tx, agent_id).await? {
        return Ok(Err(NotJoined::Taken(agent_id.clone())));
    }
    let made = sqlx::query(
        "insert into sched_agent_key (fingerprint, agent_id, labels, joined_at) \
         values (?, ?, ?, cast(unixepoch('now', 'subsec') * 1000000 as integer)) \
         on conflict do nothing returning agent_id, labels, joined_at",
    )
    .bind(key.0.as_slice())
    .bind(agent_id.as_str())
    .bind(used.text_or_null("labels")?)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(made) = made else { return not_made(&mut tx, key, agent_id).await.map(Err) };
    let joined = row::joined(&made)?;
    tx.commit().await?;
    Ok(Ok(joined))
}

/// The key was here before, under another token; or the id is being taken at this moment.
async fn not_made(tx: &mut Tx, key: Fingerprint, agent_id: &AgentId) -> Result<NotJoined, StoreError> {
    let known: bool =
        sqlx::query_scalar("select exists (select 1 from sched_agent_key where fingerprint = ?)")
            .bind(key.0.as_slice())
            .fetch_one(&mut **tx)
            .await?;
    Ok(if known { NotJoined::Revoked } else { NotJoined::Taken(agent_id.clone()) })
}

async fn revoke(db: &Sqlite, agent_id: &AgentId) -> Result<Fingerprint, StoreError> {
    let mut tx = db.begin().await?;
    let revoked = take_back(&mut tx, agent_id).await?.ok_or(StoreError::NotFound)?;
    tx.commit().await?;
    Ok(revoked)
}

/// Why the token did not serve; or it did, and this very key joined with it before.
async fn why_not(
    tx: &mut Tx,
    token: TokenHash,
    key: Fingerprint,
    agent_id: &AgentId,
) -> Result<Result<Joined, NotJoined>, StoreError> {
    let row = sqlx::query(
        "select t.agent_id as only_for, t.used_at, t.expires_at, t.used_by = ?2 as same_key, \
         k.agent_id, k.labels, k.joined_at, k.revoked_at from sched_join_token t \
         left join sched_agent_key k on k.fingerprint = t.used_by where t.hash = ?1",
    )
    .bind(token.0.as_slice())
    .bind(key.0.as_slice())
    .fetch_optional(&mut **tx)
    .await?;
    row.map_or(Ok(Err(NotJoined::Unknown)), |row| row::why_not_joined(&row, agent_id))
}

/// The agent was here, with a key or without.
async fn is_known(tx: &mut Tx, agent_id: &AgentId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "select exists (select 1 from sched_agent where id = ?1) \
         or exists (select 1 from sched_agent_key where agent_id = ?1)",
    )
    .bind(agent_id.as_str())
    .fetch_one(&mut **tx)
    .await?)
}

/// Its session ends too; nothing is leased to it any more.
async fn take_back(tx: &mut Tx, agent_id: &AgentId) -> Result<Option<Fingerprint>, StoreError> {
    let revoked = sqlx::query(
        "update sched_agent_key set revoked_at = cast(unixepoch('now', 'subsec') * 1000000 as integer) \
         where agent_id = ? and revoked_at is null returning fingerprint",
    )
    .bind(agent_id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    let Some(revoked) = revoked else { return Ok(None) };
    end_session(tx, agent_id).await?;
    row::fingerprint(&revoked, "fingerprint").map(Some)
}

async fn end_session(tx: &mut Tx, agent_id: &AgentId) -> Result<(), StoreError> {
    sqlx::query(
        "update sched_agent set session_epoch = session_epoch + 1, online = 0, \
         session_until = min(session_until, cast(unixepoch('now', 'subsec') * 1000000 as integer)) where id = ?",
    )
    .bind(agent_id.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether the agent that says hello is who it says: it shows the agent's key, or there is none and it shows none.
pub(super) async fn admit(
    tx: &mut Tx,
    agent_id: &AgentId,
    key: Option<Fingerprint>,
) -> Result<(), StoreError> {
    let held: Option<Vec<u8>> = sqlx::query_scalar(
        "select fingerprint from sched_agent_key where agent_id = ? and revoked_at is null",
    )
    .bind(agent_id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    if held.as_deref() == key.as_ref().map(|key| key.0.as_slice()) {
        Ok(())
    } else {
        Err(StoreError::NotAdmitted)
    }
}
