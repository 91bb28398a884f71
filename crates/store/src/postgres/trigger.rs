//! Triggers, their jobs and schedules on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use hetuflow_core::{
    id::{JobId, Namespace, ScheduleId},
    job::{Job, JobSpec},
};
use jiff::Timestamp;

use super::{
    Postgres, Tx,
    columns::{text, time},
    retrying,
};
use crate::{
    NewSchedule, NewTrigger, Revision, StoreError, StoredSchedule, StoredTrigger, TriggerChange,
    TriggerStore,
    row::{self, Columns},
    trigger::KEPT,
};

#[async_trait]
impl TriggerStore for Postgres {
    async fn apply_triggers(
        &self,
        owner: &str,
        changes: &[TriggerChange],
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        retrying!(apply_all(self, owner, changes, now))
    }

    async fn triggers(&self) -> Result<Vec<StoredTrigger>, StoreError> {
        // One snapshot, so that a trigger and its schedules are of the same moment.
        let mut tx = self.begin_with("begin isolation level repeatable read, read only").await?;
        let rows = sqlx::query(
            "select t.*, j.id as job_id from sched_trigger t \
             left join sched_job j on j.namespace = t.namespace and j.name = t.job_name \
             order by t.namespace collate \"C\", t.name collate \"C\"",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut triggers = rows.iter().map(row::trigger).collect::<Result<Vec<_>, _>>()?;
        let rows = sqlx::query("select * from sched_schedule order by position").fetch_all(&mut *tx).await?;
        let mut schedules: HashMap<(String, String), Vec<StoredSchedule>> = HashMap::new();
        for row in &rows {
            let of = (row.text("namespace")?, row.text("trigger_name")?);
            schedules.entry(of).or_default().push(row::schedule(row)?);
        }
        for trigger in &mut triggers {
            let of = (trigger.namespace.as_str().to_owned(), trigger.name.clone());
            trigger.schedules = schedules.remove(&of).unwrap_or_default();
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
            "select * from sched_trigger_revision where namespace = $1 and name = $2 and revision = $3",
        )
        .bind(namespace.as_str())
        .bind(name)
        .bind(revision)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(StoreError::NotFound)?;
        row::revision(&row)
    }

    async fn trigger_generation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("select generation from sched_meta where id = 1").fetch_one(&self.pool).await?)
    }

    async fn job(&self, id: JobId) -> Result<Job, StoreError> {
        let row = sqlx::query("select * from sched_job where id = $1")
            .bind(id.uuid())
            .fetch_optional(&self.pool)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::job(&row)
    }

    async fn job_named(&self, namespace: &Namespace, name: &str) -> Result<Job, StoreError> {
        let row = sqlx::query("select * from sched_job where namespace = $1 and name = $2")
            .bind(namespace.as_str())
            .bind(name)
            .fetch_optional(&self.pool)
            .await?
            .ok_or(StoreError::NotFound)?;
        row::job(&row)
    }

    async fn jobs(&self) -> Result<Vec<Job>, StoreError> {
        let rows =
            sqlx::query("select * from sched_job order by namespace collate \"C\", name collate \"C\"")
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(row::job).collect()
    }
}

/// Whoever applies changes locks the generation first: one set of changes at a time.
async fn apply_all(
    db: &Postgres,
    owner: &str,
    changes: &[TriggerChange],
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut tx = db.begin().await?;
    sqlx::query("select generation from sched_meta where id = 1 for update").fetch_one(&mut *tx).await?;
    let mut differed = false;
    for change in changes {
        differed |= apply(&mut tx, owner, change, now).await?;
    }
    let generation = sqlx::query_scalar(
        "update sched_meta set generation = generation + $1 where id = 1 returning generation",
    )
    .bind(i64::from(differed))
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(generation)
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
            sqlx::query("delete from sched_trigger where namespace = $1 and name = $2")
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
        "select owner, revision, text, problem from sched_trigger where namespace = $1 and name = $2",
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
        sqlx::query("update sched_trigger set problem = null where namespace = $1 and name = $2")
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
         job_name, updated_at) values ($1, $2, $3, $4, 1 + coalesce((select max(revision) from sched_trigger_revision \
         where namespace = $1 and name = $2), 0), $5, $6, null, $7, $8) \
         on conflict (namespace, name) do update set origin = excluded.origin, revision = excluded.revision, \
         text = excluded.text, description = excluded.description, problem = null, job_name = excluded.job_name, \
         updated_at = excluded.updated_at",
    )
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(owner)
    .bind(text(&trigger.origin))
    .bind(text(&trigger.text))
    .bind(text(&trigger.description))
    .bind(&trigger.job_name)
    .bind(time(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says what is in force now, and forgets the oldest.
async fn keep_revision(tx: &mut Tx, trigger: &NewTrigger, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_trigger_revision (namespace, name, revision, origin, text, created_at) \
         select namespace, name, revision, origin, text, $3 from sched_trigger where namespace = $1 and name = $2",
    )
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(time(now))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "delete from sched_trigger_revision where namespace = $1 and name = $2 and revision <= \
         (select revision - $3 from sched_trigger where namespace = $1 and name = $2)",
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
         values ($1, $2, $3, $4, 0, '', '', $5, $6) on conflict (namespace, name) do update set problem = excluded.problem",
    )
    .bind(namespace.as_str())
    .bind(name)
    .bind(owner)
    .bind(text(origin))
    .bind(text(problem))
    .bind(time(now))
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
         values ($1, $2, $3, $4, 1, $5::text::json, $6, $6) \
         on conflict (namespace, name) do update set description = excluded.description, \
         revision = j.revision + 1, config = excluded.config, updated_at = excluded.updated_at \
         where j.config::text <> excluded.config::text or j.description <> excluded.description",
    )
    .bind(JobId::at(now).uuid())
    .bind(trigger.namespace.as_str())
    .bind(&trigger.job_name)
    .bind(text(&trigger.description))
    .bind(row::json(spec)?)
    .bind(time(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Schedules that say the same as before stay as they are, the others are made anew.
async fn put_schedules(tx: &mut Tx, trigger: &NewTrigger) -> Result<(), StoreError> {
    let rows = sqlx::query("select * from sched_schedule where namespace = $1 and trigger_name = $2")
        .bind(trigger.namespace.as_str())
        .bind(&trigger.name)
        .fetch_all(&mut **tx)
        .await?;
    let stored = rows.iter().map(row::schedule).collect::<Result<Vec<_>, _>>()?;
    for old in stored.iter().filter(|old| !trigger.schedules.iter().any(|new| same(old, new))) {
        sqlx::query("delete from sched_schedule where id = $1")
            .bind(old.id.uuid())
            .execute(&mut **tx)
            .await?;
    }
    for (position, new) in (0_i32..).zip(&trigger.schedules) {
        match stored.iter().find(|old| same(old, new)) {
            Some(old) => {
                sqlx::query("update sched_schedule set position = $1 where id = $2")
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
    position: i32,
    new: &NewSchedule,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sched_schedule (id, namespace, trigger_name, position, name, kind, spec, created_at, next_run_at) \
         values ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9)",
    )
    .bind(ScheduleId::at(new.created_at).uuid())
    .bind(trigger.namespace.as_str())
    .bind(&trigger.name)
    .bind(position)
    .bind(text(&new.name))
    .bind(new.kind.name())
    .bind(row::json(&new.spec)?)
    .bind(time(new.created_at))
    .bind(new.next_run_at.map(time))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
