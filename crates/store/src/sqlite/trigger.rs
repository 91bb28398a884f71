//! Triggers, their jobs and schedules on SQLite.

use async_trait::async_trait;
use hetuflow_core::{
    id::{JobId, Namespace, ScheduleId},
    job::{Job, JobSpec},
};
use jiff::Timestamp;

use super::{Sqlite, Tx};
use crate::{
    NewSchedule, NewTrigger, Revision, StoreError, StoredSchedule, StoredTrigger, TriggerChange,
    TriggerStore,
    row::{self, Columns},
    trigger::KEPT,
};

#[async_trait]
impl TriggerStore for Sqlite {
    async fn apply_triggers(
        &self,
        owner: &str,
        changes: &[TriggerChange],
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let mut differed = false;
        for change in changes {
            differed |= apply(&mut tx, owner, change, now).await?;
        }
        let generation = sqlx::query_scalar(
            "update sched_meta set generation = generation + ? where id = 1 returning generation",
        )
        .bind(i64::from(differed))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(generation)
    }

    async fn triggers(&self) -> Result<Vec<StoredTrigger>, StoreError> {
        // One transaction, so that a trigger and its schedules are of the same moment.
        let mut tx = self.readers.begin().await?;
        let rows = sqlx::query(
            "select t.*, j.id as job_id from sched_trigger t \
             left join sched_job j on j.namespace = t.namespace and j.name = t.job_name \
             order by t.namespace, t.name",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut triggers = rows.iter().map(row::trigger).collect::<Result<Vec<_>, _>>()?;
        for trigger in &mut triggers {
            let rows = sqlx::query(
                "select * from sched_schedule where namespace = ? and trigger_name = ? order by position",
            )
            .bind(trigger.namespace.as_str())
            .bind(&trigger.name)
            .fetch_all(&mut *tx)
            .await?;
            trigger.schedules = rows.iter().map(row::schedule).collect::<Result<_, _>>()?;
        }
        Ok(triggers)
    }

    async fn trigger_revision(
        &self,
        namespace: &Namespace,
        name: &str,
        revision: i64,
    ) -> Result<Revision, StoreError> {
        let row = sqlx::query(
            "select * from sched_trigger_revision where namespace = ? and name = ? and revision = ?",
        )
        .bind(namespace.as_str())
        .bind(name)
        .bind(revision)
        .fetch_optional(&self.readers)
        .await?
        .ok_or(StoreError::NotFound)?;
        row::revision(&row)
    }

    async fn trigger_generation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("select generation from sched_meta where id = 1")
            .fetch_one(&self.readers)
            .await?)
    }

    async fn job(&self, id: JobId) -> Result<Job, StoreError> {
        let row = sqlx::query("select * from sched_job where id = ?")
            .bind(id.uuid())
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::job(&row)
    }

    async fn job_named(&self, namespace: &Namespace, name: &str) -> Result<Job, StoreError> {
        let row = sqlx::query("select * from sched_job where namespace = ? and name = ?")
            .bind(namespace.as_str())
            .bind(name)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::job(&row)
    }

    async fn jobs(&self) -> Result<Vec<Job>, StoreError> {
        let rows =
            sqlx::query("select * from sched_job order by namespace, name").fetch_all(&self.readers).await?;
        rows.iter().map(row::job).collect()
    }
}

/// What is stored of a trigger before a change.
struct Before {
    revision: i64,
    text: String,
    problem: Option<String>,
}

/// Says whether anything differed.
async fn apply(tx: &mut Tx, owner: &str, change: &TriggerChange, now: Timestamp) -> Result<bool, StoreError> {
    match change {
        TriggerChange::Put(trigger) => {
            let before = before(tx, owner, &trigger.namespace, &trigger.name).await?;
            put(tx, owner, trigger, before, now).await
        }
        TriggerChange::Broken { namespace, name, origin, problem } => {
            let before = before(tx, owner, namespace, name).await?;
            if before.is_some_and(|before| before.problem.as_ref() == Some(problem)) {
                return Ok(false);
            }
            note_problem(tx, owner, (namespace, name), origin, problem, now).await?;
            Ok(true)
        }
        TriggerChange::Remove { namespace, name } => {
            let before = before(tx, owner, namespace, name).await?;
            // Its schedules go with it.
            sqlx::query("delete from sched_trigger where namespace = ? and name = ?")
                .bind(namespace.as_str())
                .bind(name)
                .execute(&mut **tx)
                .await?;
            Ok(before.is_some())
        }
    }
}

async fn before(
    tx: &mut Tx,
    owner: &str,
    namespace: &Namespace,
    name: &str,
) -> Result<Option<Before>, StoreError> {
    let row = sqlx::query(
        "select owner, revision, text, problem from sched_trigger where namespace = ? and name = ?",
    )
    .bind(namespace.as_str())
    .bind(name)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let stored_owner = row.text("owner")?;
    if stored_owner != owner {
        return Err(StoreError::Conflict(format!(
            "the trigger {namespace}/{name} belongs to {stored_owner}, not to {owner}"
        )));
    }
    let (revision, text) = (row.int("revision")?, row.text("text")?);
    Ok(Some(Before { revision, text, problem: row.text_or_null("problem")? }))
}

async fn put(
    tx: &mut Tx,
    owner: &str,
    trigger: &NewTrigger,
    before: Option<Before>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let unchanged = before.filter(|before| before.revision > 0 && before.text == trigger.text);
    if let Some(before) = unchanged {
        sqlx::query("update sched_trigger set problem = null where namespace = ? and name = ?")
            .bind(trigger.namespace.as_str())
            .bind(&trigger.name)
            .execute(&mut **tx)
            .await?;
        return Ok(before.problem.is_some());
    }
    upsert(tx, owner, trigger, now).await?;
    keep_revision(tx, trigger, now).await?;
    if let Some(spec) = &trigger.job {
        put_job(tx, trigger, spec, now).await?;
    }
    put_schedules(tx, trigger).await?;
    Ok(true)
}

async fn upsert(tx: &mut Tx, owner: &str, trigger: &NewTrigger, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_trigger as t (namespace, name, owner, origin, revision, text, description, problem, \
         job_name, updated_at) values (?1, ?2, ?3, ?4, 1 + coalesce((select max(revision) from sched_trigger_revision \
         where namespace = ?1 and name = ?2), 0), ?5, ?6, null, ?7, ?8) \
         on conflict (namespace, name) do update set origin = excluded.origin, revision = excluded.revision, \
         text = excluded.text, description = excluded.description, problem = null, job_name = excluded.job_name, \
         updated_at = excluded.updated_at",
    )
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(owner)
    .bind(&trigger.origin)
    .bind(&trigger.text)
    .bind(&trigger.description)
    .bind(&trigger.job_name)
    .bind(now.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says what is in force now, and forgets the oldest.
async fn keep_revision(tx: &mut Tx, trigger: &NewTrigger, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_trigger_revision (namespace, name, revision, origin, text, created_at) \
         select namespace, name, revision, origin, text, ?3 from sched_trigger where namespace = ?1 and name = ?2",
    )
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(now.as_microsecond())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "delete from sched_trigger_revision where namespace = ?1 and name = ?2 and revision <= \
         (select revision - ?3 from sched_trigger where namespace = ?1 and name = ?2)",
    )
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(KEPT)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn note_problem(
    tx: &mut Tx,
    owner: &str,
    (namespace, name): (&Namespace, &str),
    origin: &str,
    problem: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_trigger (namespace, name, owner, origin, revision, text, description, problem, updated_at) \
         values (?, ?, ?, ?, 0, '', '', ?, ?) on conflict (namespace, name) do update set problem = excluded.problem",
    )
    .bind(namespace.as_str())
    .bind(name)
    .bind(owner)
    .bind(origin)
    .bind(problem)
    .bind(now.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The job keeps its id; its revision grows only when it says something else than before.
async fn put_job(
    tx: &mut Tx,
    trigger: &NewTrigger,
    spec: &JobSpec,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_job as j (id, namespace, name, description, revision, config, created_at, updated_at) \
         values (?1, ?2, ?3, ?4, 1, ?5, ?6, ?6) \
         on conflict (namespace, name) do update set description = excluded.description, \
         revision = j.revision + 1, config = excluded.config, updated_at = excluded.updated_at \
         where j.config <> excluded.config or j.description <> excluded.description",
    )
    .bind(JobId::at(now).uuid())
    .bind(trigger.namespace.as_str())
    .bind(&trigger.job_name)
    .bind(&trigger.description)
    .bind(row::json(spec)?)
    .bind(now.as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Schedules that say the same as before stay as they are, the others are made anew.
async fn put_schedules(tx: &mut Tx, trigger: &NewTrigger) -> Result<(), StoreError> {
    let rows = sqlx::query("select * from sched_schedule where namespace = ? and trigger_name = ?")
        .bind(trigger.namespace.as_str())
        .bind(&trigger.name)
        .fetch_all(&mut **tx)
        .await?;
    let stored = rows.iter().map(row::schedule).collect::<Result<Vec<_>, _>>()?;
    for old in stored.iter().filter(|old| !trigger.schedules.iter().any(|new| same(old, new))) {
        sqlx::query("delete from sched_schedule where id = ?").bind(old.id.uuid()).execute(&mut **tx).await?;
    }
    for (position, new) in (0_i64..).zip(&trigger.schedules) {
        match stored.iter().find(|old| same(old, new)) {
            Some(old) => {
                sqlx::query("update sched_schedule set position = ? where id = ?")
                    .bind(position)
                    .bind(old.id.uuid())
                    .execute(&mut **tx)
                    .await?;
            }
            None => insert_schedule(tx, trigger, position, new).await?,
        }
    }
    Ok(())
}

fn same(old: &StoredSchedule, new: &NewSchedule) -> bool {
    old.name == new.name && old.kind == new.kind && old.spec == new.spec
}

async fn insert_schedule(
    tx: &mut Tx,
    trigger: &NewTrigger,
    position: i64,
    new: &NewSchedule,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_schedule (id, namespace, trigger_name, position, name, kind, spec, created_at, next_run_at) \
         values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(ScheduleId::at(new.created_at).uuid())
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(position)
    .bind(&new.name)
    .bind(new.kind.name())
    .bind(row::json(&new.spec)?)
    .bind(new.created_at.as_microsecond())
    .bind(new.next_run_at.map(Timestamp::as_microsecond))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
