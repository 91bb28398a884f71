//! What the store knows of a batch before it is written: its keys, its events, the sessions of its offers, the lanes of
//! its tasks.

use std::collections::{BTreeSet, HashMap, HashSet};

use hetuflow_core::{
    id::{AgentId, EventId},
    task::NewTask,
};

use super::insert::{Key, Owner, key};
use crate::{
    Ingest, Offer, Slot, StoreError,
    row::{self, Columns},
    sqlite::{
        Tx,
        batch::{Bound, MOST, Over},
        task::claim,
    },
};

#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    pub(super) keys: HashMap<Key<'a>, Owner>,
    pub(super) events: HashSet<EventId>,
    /// The session of each agent of an offer.
    epochs: HashMap<String, i64>,
    pub(super) lanes: HashMap<String, i64>,
}

pub(in crate::sqlite) const KEYS: Over = Over {
    text: "select u.column4 as n, d.event_id, d.expires_at from {rows} u cross join sched_dedupe d \
           where d.namespace = u.column1 and d.scope = u.column2 and d.key = u.column3",
    columns: 4,
};
pub(in crate::sqlite) const EVENTS: Over =
    Over { text: "select e.id from {rows} u cross join sched_event e where e.id = u.column1", columns: 1 };
pub(in crate::sqlite) const LANES: &str =
    "select l.key, l.id from json_each(?) u cross join sched_lane l where l.key = u.value";

pub(super) async fn look<'a>(
    tx: &mut Tx,
    batch: &'a [Ingest],
    offers: &[Offer],
) -> Result<Known<'a>, StoreError> {
    let mut known = Known::default();
    known.epochs(tx, offers).await?;
    known.lanes(tx, batch).await?;
    for batch in batch.chunks(MOST) {
        let keyed: Vec<(usize, Key<'a>)> =
            batch.iter().enumerate().filter_map(|(n, ingest)| Some((n, key(ingest)?))).collect();
        for row in &KEYS.run(tx, &keyed, bind_key).await?.rows {
            let n: usize = row::number(row, "n")?;
            let event_id = EventId::from_uuid(row.uuid("event_id")?);
            let owner = Owner { event_id, expires_at: row.time("expires_at")? };
            known.keys.extend(batch.get(n).and_then(key).map(|key| (key, owner)));
        }
        let bind_id = |bound: &mut Bound, ingest: &Ingest| {
            bound.bind(ingest.event.id.uuid());
        };
        for row in &EVENTS.run(tx, batch, bind_id).await?.rows {
            known.events.insert(EventId::from_uuid(row.uuid("id")?));
        }
    }
    Ok(known)
}

fn bind_key(bound: &mut Bound, (n, key): &(usize, Key<'_>)) {
    bound.bind(key.0).bind(key.1).bind(key.2).bind(i64::try_from(*n).unwrap_or(i64::MAX));
}

impl Known<'_> {
    /// Whether the slot's session is the one that the store knows.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        self.epochs.get(slot.agent_id.as_str()) == Some(&slot.session_epoch)
    }

    async fn epochs(&mut self, tx: &mut Tx, offers: &[Offer]) -> Result<(), StoreError> {
        let agents: BTreeSet<&AgentId> = offers.iter().map(|offer| &offer.slot.agent_id).collect();
        self.epochs = claim::epochs(tx, &agents).await?;
        Ok(())
    }

    async fn lanes(&mut self, tx: &mut Tx, batch: &[Ingest]) -> Result<(), StoreError> {
        let tasks = batch.iter().flat_map(|ingest| &ingest.tasks);
        let lanes = tasks.map(row::lane_key).collect::<Result<BTreeSet<_>, _>>()?;
        if lanes.is_empty() {
            return Ok(());
        }
        for row in &sqlx::query(LANES).bind(row::json(&lanes)?).fetch_all(&mut **tx).await? {
            self.lanes.insert(row.text("key")?, row.int("id")?);
        }
        Ok(())
    }
}

/// Gives a number to each lane that is seen for the first time.
pub(super) async fn add_lanes<'a>(
    tx: &mut Tx,
    known: &mut Known<'_>,
    tasks: impl Iterator<Item = &'a NewTask>,
) -> Result<(), StoreError> {
    for task in tasks {
        let key = row::lane_key(task)?;
        if known.lanes.contains_key(&key) {
            continue;
        }
        let id: i64 = sqlx::query_scalar(
            "insert into sched_lane (key, selector, agent_id, priority) values (?, ?, ?, ?) returning id",
        )
        .bind(&key)
        .bind(row::json(&task.lane.selector)?)
        .bind(task.lane.agent.as_ref().map(AgentId::as_str))
        .bind(task.priority)
        .fetch_one(&mut **tx)
        .await?;
        known.lanes.insert(key, id);
    }
    Ok(())
}
