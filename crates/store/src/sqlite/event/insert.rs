//! Stores a batch of events with their keys and tasks. The writer is alone: what it has looked up stays true until it
//! commits. So everything that is known of a batch is looked up first, what becomes of each event is decided in its
//! order, and then all of it is written. Nothing here replaces a row: what was overlooked breaks on a primary key.

use std::collections::{HashMap, HashSet};

use hetuflow_core::{
    id::{EventId, TaskId},
    task::{Lease, NewTask},
};
use hetuflow_failpoint::failpoint;
use jiff::Timestamp;

use super::{
    at_once,
    known::{self, Known},
    more_keys,
    rows::{self, Planned},
};
use crate::{
    Committed, Ingest, Ingested, Offer, StoreError,
    row::{self, Columns},
    sqlite::{
        Sqlite, Tx,
        batch::{FEW, MOST},
    },
};

/// Namespace, scope and key.
pub(super) type Key<'a> = (&'a str, &'a str, &'a str);

/// The event that has a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) event_id: EventId,
    pub(super) expires_at: Timestamp,
}

pub(in crate::sqlite) async fn insert(
    tx: &mut Tx,
    batch: &[Ingest],
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    let answers = known::questions(batch, offers)?.run(tx).await?;
    let mut known = known::learn(tx, batch, answers).await?;
    insert_known(tx, batch, offers, &mut known).await
}

/// In a transaction of its own: at once where nothing of the batch can be known, or after asking what is.
pub(in crate::sqlite) async fn commit(
    db: &Sqlite,
    batch: &[Ingest],
    offers: &[Offer],
) -> Result<Committed, StoreError> {
    if batch.iter().any(Ingest::has_more_keys) {
        return more_keys::commit(db, batch, offers).await;
    }
    let at_once = at_once::prepare(db, batch, offers)?;
    let mut turn = db.writer.turn().await?;
    failpoint!("ingest.before_insert");
    if let Some(at_once) = at_once {
        turn = match at_once.run(turn).await? {
            Ok(committed) => return Ok(committed),
            Err(turn) => turn,
        };
    }
    let (mut tx, answers) = turn.begin(known::questions(batch, offers)?).await?;
    let mut known = known::learn(&mut tx, batch, answers).await?;
    let committed = insert_known(&mut tx, batch, offers, &mut known).await?;
    failpoint!("ingest.before_commit");
    tx.commit().await?;
    db.lanes.remember(&known.lanes);
    Ok(committed)
}

async fn insert_known<'a>(
    tx: &mut Tx,
    batch: &'a [Ingest],
    offers: &[Offer],
    known: &mut Known<'a>,
) -> Result<Committed, StoreError> {
    let decided = decide(batch, known);
    known::add_lanes(tx, known, decided.new.iter().flat_map(|ingest| &ingest.tasks)).await?;
    let leased = store(tx, &decided, known, offers).await?;
    let mut answers = decided.answers;
    add_tasks(tx, &mut answers).await?;
    Ok(Committed { answers, leased })
}

/// One event without offers.
pub(in crate::sqlite) async fn insert_one(tx: &mut Tx, ingest: &Ingest) -> Result<Ingested, StoreError> {
    Ok(insert(tx, std::slice::from_ref(ingest), &[]).await?.answers.remove(0))
}

struct Decided<'a> {
    /// Of duplicates without the tasks.
    answers: Vec<Ingested>,
    new: Vec<&'a Ingest>,
    taken: HashMap<Key<'a>, Owner>,
}

pub(super) fn key(ingest: &Ingest) -> Option<Key<'_>> {
    let dedupe = ingest.dedupe.as_ref()?;
    Some((ingest.event.namespace.as_str(), &dedupe.scope, &dedupe.key))
}

/// One event after the other. Each takes its key, also from an event for which it has expired, or is a duplicate; so is
/// one that is here itself, because the answer to its first commit was lost.
fn decide<'a>(batch: &'a [Ingest], known: &Known<'a>) -> Decided<'a> {
    let mut ids: HashSet<EventId> = known.events.clone();
    let mut decided = Decided { answers: Vec::new(), new: Vec::new(), taken: HashMap::new() };
    for ingest in batch {
        let id = ingest.event.id;
        let owner = match (key(ingest), &ingest.dedupe) {
            (Some(key), Some(dedupe)) => {
                let wanted = Owner { event_id: id, expires_at: dedupe.expires_at };
                decided.take(key, wanted, ingest.event.received_at, known)
            }
            _ => None,
        };
        let first = owner.or_else(|| (!ids.insert(id)).then_some(id));
        decided.answers.push(match first {
            Some(event_id) => Ingested::duplicate_of(event_id),
            None => Ingested::Stored,
        });
        if first.is_none() {
            decided.new.push(ingest);
        }
    }
    decided
}

impl<'a> Decided<'a> {
    /// Yields the event that has the key at that time and keeps it.
    fn take(&mut self, key: Key<'a>, wanted: Owner, at: Timestamp, known: &Known<'a>) -> Option<EventId> {
        let owner = self.taken.get(&key).or_else(|| known.keys.get(&key));
        if let Some(owner) = owner.filter(|owner| owner.expires_at > at) {
            return Some(owner.event_id);
        }
        self.taken.insert(key, wanted);
        None
    }
}

/// Yields the leases of the tasks whose offer was taken.
async fn store(
    tx: &mut Tx,
    decided: &Decided<'_>,
    known: &Known<'_>,
    offers: &[Offer],
) -> Result<Vec<Lease>, StoreError> {
    // Another event has had them.
    let expired: Vec<Key<'_>> =
        decided.taken.keys().filter(|key| known.keys.contains_key(*key)).copied().collect();
    for expired in expired.chunks(MOST) {
        rows::FORGET_KEYS.run(tx, expired, rows::key).await?;
    }
    let in_force = offers.iter().filter(|offer| known.holds(&offer.slot));
    let offers: HashMap<TaskId, &Offer> = in_force.map(|offer| (offer.lease.task_id, offer)).collect();
    let tasks: Vec<Planned<'_>> = decided
        .new
        .iter()
        .flat_map(|ingest| ingest.tasks.iter().map(|task| Planned::of(task, ingest, &known.lanes, &offers)))
        .collect::<Result<_, _>>()?;
    let keys: Vec<(Key<'_>, Owner)> = decided.taken.iter().map(|(key, owner)| (*key, *owner)).collect();
    write(tx, &keys, &decided.new, &tasks).await?;
    Ok(tasks.iter().filter_map(Planned::lease).collect())
}

/// A few rows go together; many are prepared in fewer combinations when they go one kind after the other.
async fn write(
    tx: &mut Tx,
    keys: &[(Key<'_>, Owner)],
    new: &[&Ingest],
    tasks: &[Planned<'_>],
) -> Result<(), StoreError> {
    if keys.len().max(new.len()).max(tasks.len()) <= FEW {
        rows::together(keys, new, tasks).run(tx).await?;
        return Ok(());
    }
    for keys in keys.chunks(MOST) {
        rows::KEYS.run(tx, keys, rows::taken_key).await?;
    }
    for new in new.chunks(MOST) {
        rows::EVENTS.run(tx, new, rows::event).await?;
    }
    for tasks in tasks.chunks(MOST) {
        rows::TASKS.run(tx, tasks, rows::task).await?;
    }
    Ok(())
}

/// Says what the first delivery of each duplicate has caused.
pub(super) async fn add_tasks(tx: &mut Tx, answers: &mut [Ingested]) -> Result<(), StoreError> {
    let firsts: HashSet<String> = answers
        .iter()
        .filter_map(|answer| match answer {
            Ingested::Duplicate { event_id, .. } => Some(event_id.uuid().simple().to_string()),
            Ingested::Stored => None,
        })
        .collect();
    if firsts.is_empty() {
        return Ok(());
    }
    let mut tasks: HashMap<EventId, Vec<TaskId>> = HashMap::new();
    for row in sqlx::query(rows::TASKS_OF).bind(row::json(&firsts)?).fetch_all(&mut **tx).await? {
        let event_id = EventId::from_uuid(row.uuid("event_id")?);
        tasks.entry(event_id).or_default().push(TaskId::from_uuid(row.uuid("id")?));
    }
    for answer in answers {
        if let Ingested::Duplicate { event_id, task_ids, .. } = answer {
            task_ids.clone_from(tasks.get(event_id).unwrap_or(&Vec::new()));
        }
    }
    Ok(())
}

/// A task that can never run takes no place.
pub(super) fn offer_for<'a>(task: &NewTask, offers: &HashMap<TaskId, &'a Offer>) -> Option<&'a Offer> {
    offers.get(&task.id).copied().filter(|_| task.command.is_ok())
}
