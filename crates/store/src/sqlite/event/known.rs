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
        batch::{Bound, Done, MOST, Over, Script},
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

/// What is asked in one step: everything, unless the batch is very large.
pub(super) fn questions(batch: &[Ingest], offers: &[Offer]) -> Result<Script, StoreError> {
    let agents: BTreeSet<&AgentId> = offers.iter().map(|offer| &offer.slot.agent_id).collect();
    let tasks = batch.iter().flat_map(|ingest| &ingest.tasks);
    let lanes = tasks.map(row::lane_key).collect::<Result<BTreeSet<_>, _>>()?;
    let json = |bound: &mut Bound, list: String| {
        bound.bind(list);
    };
    let agents = if agents.is_empty() { None } else { Some(row::json(&agents)?) };
    let lanes = if lanes.is_empty() { None } else { Some(row::json(&lanes)?) };
    let first = &batch[..batch.len().min(MOST)];
    Ok(about(first).with(claim::EPOCHS, agents, json).with(LANES, lanes, json))
}

/// Whether keys and events of the batch are known.
fn about(batch: &[Ingest]) -> Script {
    let keyed: Vec<(usize, Key<'_>)> =
        batch.iter().enumerate().filter_map(|(n, ingest)| Some((n, key(ingest)?))).collect();
    let bind_id = |bound: &mut Bound, ingest: &Ingest| {
        bound.bind(ingest.event.id.uuid());
    };
    Script::default().over(KEYS, &keyed, bind_key).over(EVENTS, batch, bind_id)
}

/// Takes in the answers, and asks what is left.
pub(super) async fn learn<'a>(
    tx: &mut Tx,
    batch: &'a [Ingest],
    answers: Vec<Done>,
) -> Result<Known<'a>, StoreError> {
    let mut known = Known::default();
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    known.hear(&batch[..batch.len().min(MOST)], &next(), &next())?;
    for row in &next().rows {
        known.epochs.insert(row.text("id")?, row.int("session_epoch")?);
    }
    for row in &next().rows {
        known.lanes.insert(row.text("key")?, row.int("id")?);
    }
    for batch in batch.chunks(MOST).skip(1) {
        let mut answers = about(batch).run(tx).await?.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        known.hear(batch, &next(), &next())?;
    }
    Ok(known)
}

fn bind_key(bound: &mut Bound, (n, key): &(usize, Key<'_>)) {
    bound.bind(key.0).bind(key.1).bind(key.2).bind(i64::try_from(*n).unwrap_or(i64::MAX));
}

impl<'a> Known<'a> {
    fn hear(&mut self, batch: &'a [Ingest], keys: &Done, events: &Done) -> Result<(), StoreError> {
        for row in &keys.rows {
            let n: usize = row::number(row, "n")?;
            let event_id = EventId::from_uuid(row.uuid("event_id")?);
            let owner = Owner { event_id, expires_at: row.time("expires_at")? };
            self.keys.extend(batch.get(n).and_then(key).map(|key| (key, owner)));
        }
        for row in &events.rows {
            self.events.insert(EventId::from_uuid(row.uuid("id")?));
        }
        Ok(())
    }

    /// Whether the slot's session is the one that the store knows.
    pub(super) fn holds(&self, slot: &Slot) -> bool {
        self.epochs.get(slot.agent_id.as_str()) == Some(&slot.session_epoch)
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
