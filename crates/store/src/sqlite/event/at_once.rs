//! The usual batch in one step: a few events that nobody has seen, of lanes that are known. It is written in the hope that
//! this is so; what is otherwise (a key that is taken, an event that is stored, a session that is over) breaks on a
//! constraint, nothing has happened, and [`super::insert`] asks first.

use std::collections::{BTreeSet, HashMap, HashSet};

use hetuflow_core::{id::TaskId, task::Lease};

use super::{
    insert::{Key, Owner, key},
    rows::{self, Planned},
};
use crate::{
    Committed, Ingest, Ingested, Offer, StoreError, row,
    sqlite::{
        Sqlite,
        batch::{FEW, Script},
        writer::Idle,
    },
};

/// A batch that is ready to be written.
pub(super) struct AtOnce {
    script: Script,
    committed: Committed,
}

/// `None` for a batch that must be asked about: a large one, for which it makes no difference, one with duplicates in
/// itself, or with a lane that is new.
pub(super) fn prepare(db: &Sqlite, batch: &[Ingest], offers: &[Offer]) -> Result<Option<AtOnce>, StoreError> {
    let tasks = || batch.iter().flat_map(|ingest| ingest.tasks.iter().map(move |task| (task, ingest)));
    if batch.len() > FEW || tasks().count() > FEW || hetuflow_failpoint::armed("ingest.before_commit") {
        return Ok(None);
    }
    let lanes = tasks().map(|(task, _)| row::lane_key(task)).collect::<Result<BTreeSet<_>, _>>()?;
    let known = db.lanes.remembered(lanes.iter());
    let keys: Vec<(Key<'_>, Owner)> = batch.iter().filter_map(owned_key).collect();
    let ids: HashSet<_> = batch.iter().map(|ingest| ingest.event.id).collect();
    let different: HashSet<Key<'_>> = keys.iter().map(|(key, _)| *key).collect();
    if known.len() < lanes.len() || ids.len() < batch.len() || different.len() < keys.len() {
        return Ok(None);
    }
    let offers: HashMap<TaskId, &Offer> = offers.iter().map(|offer| (offer.lease.task_id, offer)).collect();
    let tasks = tasks()
        .map(|(task, ingest)| Planned::of(task, ingest, &known, &offers))
        .collect::<Result<Vec<_>, _>>()?;
    let script = rows::together(&keys, batch, &tasks);
    let leased: Vec<Lease> = tasks.iter().filter_map(Planned::lease).collect();
    let answers = batch.iter().map(|_| Ingested::Stored).collect();
    Ok(Some(AtOnce { script, committed: Committed { answers, leased } }))
}

fn owned_key(ingest: &Ingest) -> Option<(Key<'_>, Owner)> {
    let expires_at = ingest.dedupe.as_ref()?.expires_at;
    Some((key(ingest)?, Owner { event_id: ingest.event.id, expires_at }))
}

impl AtOnce {
    /// Yields the turn again when something of it was known.
    pub(super) async fn run(self, turn: Idle) -> Result<Result<Committed, Idle>, StoreError> {
        match turn.run_whole(self.script).await {
            Ok(_) => Ok(Ok(self.committed)),
            Err((turn, error)) if is_constraint(&error) => Ok(Err(turn)),
            Err((_, error)) => Err(error),
        }
    }
}

fn is_constraint(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.as_database_error().is_some_and(|error| error.is_unique_violation() || error.is_check_violation())
}
