//! The rows of a batch as they are written: keys, events, tasks.

use std::{borrow::Borrow, collections::HashMap};

use hetuflow_core::{
    id::{EventId, ScheduleId, StatusToken, TaskId},
    status::Status,
    task::{EndReason, Lease, NewTask, Outcome},
};
use jiff::Timestamp;

use super::insert::{Key, Owner, offer_for};
use crate::{
    Ingest, Offer, StoreError, body, row,
    sqlite::batch::{Bound, Over, Script},
};

pub(in crate::sqlite) const FORGET_KEYS: Over =
    Over { text: "delete from sched_dedupe where (namespace, scope, key) in {rows}", columns: 3 };

pub(super) fn key(bound: &mut Bound, (namespace, scope, key): &Key<'_>) {
    bound.bind(*namespace).bind(*scope).bind(*key);
}

pub(in crate::sqlite) const KEYS: Over = Over {
    text: "insert or fail into sched_dedupe (namespace, scope, key, event_id, expires_at) \
           select * from {rows} where column1 is not null",
    columns: 5,
};

pub(super) fn taken_key(bound: &mut Bound, (taken, owner): &(Key<'_>, Owner)) {
    key(bound, taken);
    bound.bind(owner.event_id.uuid()).bind(owner.expires_at.as_microsecond());
}

pub(in crate::sqlite) const EVENTS: Over = Over {
    text: "insert or fail into sched_event (id, created_at, namespace, kind, source, type, subject, time, received_at, \
           content_type, headers, query, verdict, verdict_reason, sender, secret, replay_of, status_token, decisions, body_size, body) \
           select * from {rows} where column1 is not null",
    columns: 21,
};

pub(super) fn event<I: Borrow<Ingest>>(bound: &mut Bound, ingest: &I) {
    let event = &ingest.borrow().event;
    bound
        .bind(event.id.uuid())
        .created_at(event.id.uuid())
        .bind(event.namespace.as_str())
        .bind(event.kind.name())
        .bind(event.source.as_str())
        .bind(event.event_type.as_str())
        .bind(event.subject.as_deref())
        .bind(event.time.as_microsecond())
        .bind(event.received_at.as_microsecond())
        .bind(event.content_type.as_deref())
        .json(&event.headers)
        .bind(event.query.as_deref())
        .bind(event.verdict.name())
        .bind(event.verdict.reason())
        .bind(event.sender.map(|sender| sender.to_string()).as_deref())
        .bind(event.secret.as_deref())
        .bind(event.replay_of.map(EventId::uuid))
        .bind(event.status_token.map(StatusToken::uuid))
        .json(&event.decisions)
        .bind(body::size(&event.body))
        .bind(body::packed(&event.body).as_ref());
}

/// A task with what its row says beyond it. One whose command could not be rendered has ended before it began; one
/// with an offer is leased from the start.
pub(super) struct Planned<'a> {
    task: &'a NewTask,
    lane_id: i64,
    status: Status,
    command: Option<String>,
    outcome: Option<String>,
    finished_at: Option<Timestamp>,
    offer: Option<&'a Offer>,
}

impl<'a> Planned<'a> {
    pub(super) fn of(
        task: &'a NewTask,
        ingest: &Ingest,
        lanes: &HashMap<String, i64>,
        offers: &HashMap<TaskId, &'a Offer>,
    ) -> Result<Self, StoreError> {
        let key = row::lane_key(task)?;
        let lane_id = *lanes.get(&key).ok_or_else(|| StoreError::CorruptRow(format!("no lane {key}")))?;
        let render = |problem: &String| row::json(&Outcome::because(EndReason::Render, problem));
        let outcome = task.command.as_ref().err().map(render).transpose()?;
        let command = task.command.as_ref().ok().map(row::json).transpose()?;
        let offer = offer_for(task, offers);
        let status = match (&outcome, offer) {
            (Some(_), _) => Status::Failed,
            (None, Some(_)) => Status::Locked,
            (None, None) => Status::Pending,
        };
        let finished_at = outcome.as_ref().map(|_| ingest.event.received_at);
        Ok(Self { task, lane_id, status, command, outcome, finished_at, offer })
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.offer.map(|offer| offer.lease)
    }
}

/// A lease is in force only for the session that the agent has: else there is no agent, and a check of the table fails.
pub(in crate::sqlite) const TASKS: Over = Over {
    text: "insert or fail into sched_task (id, created_at, namespace, trigger_name, job_id, schedule_id, event_id, status, \
           outcome, scheduled_at, finished_at, priority, lane_id, policy, attempt, fence, command, \
           instance_id, leased_at, agent_id, cancel_requested, telling) \
           select column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, \
           column12, column13, column14, column15, column16, column17, column18, column19, \
           (select a.id from sched_agent a where a.id = column20 and a.session_epoch = column21), 0, column22 \
           from {rows} where column1 is not null",
    columns: 22,
};

pub(super) fn task(bound: &mut Bound, planned: &Planned<'_>) {
    let Planned { task, offer, .. } = planned;
    let instance_id = offer.map(|offer| offer.lease.instance_id.uuid());
    bound
        .bind(task.id.uuid())
        .created_at(task.id.uuid())
        .bind(task.namespace.as_str())
        .bind(task.trigger.as_str())
        .bind(task.job_id.uuid())
        .bind(task.schedule_id.map(ScheduleId::uuid))
        .bind(task.event_id.uuid())
        .bind(planned.status.number())
        .bind(planned.outcome.as_deref())
        .bind(task.run_at.as_microsecond())
        .bind(planned.finished_at.map(Timestamp::as_microsecond))
        .bind(task.priority)
        .bind(planned.lane_id)
        .json(&task.policy)
        .bind(i64::from(offer.is_some()))
        .bind(offer.map_or(0, |offer| offer.lease.fence))
        .bind(planned.command.as_deref())
        .bind(instance_id);
    match instance_id {
        Some(id) => bound.created_at(id),
        None => bound.bind(None::<i64>),
    };
    bound
        .bind(offer.map(|offer| offer.slot.agent_id.as_str()))
        .bind(offer.map(|offer| offer.slot.session_epoch))
        .bind(task.telling.number());
}

/// A few rows of all three.
pub(super) fn together<I: Borrow<Ingest>>(
    keys: &[(Key<'_>, Owner)],
    new: &[I],
    tasks: &[Planned<'_>],
) -> Script {
    Script::default().over(KEYS, keys, taken_key).over(EVENTS, new, event).over(TASKS, tasks, task)
}

/// The ids come as JSON.
pub(in crate::sqlite) const TASKS_OF: &str = "select t.event_id, t.id from json_each(?) u cross join sched_task t \
     where t.event_id = unhex(u.value) order by t.id";
