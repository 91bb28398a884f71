//! A stretch of the journal: first how far it goes, then what a filter lets through of it.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::{
    EventFilter, Order, StoreError, Walk, Walked,
    postgres::columns::{at, time},
    row::{self, Columns},
};

/// Events as a list shows them.
pub(super) const WITHOUT_BODY: &str = "select id, namespace, kind, source, type, subject, time, received_at, content_type, headers, query, verdict, \
     verdict_reason, sender, secret, replay_of, status_token, decisions, 0 as body_size, ''::bytea as body from sched_event";

/// Events between two ids, without both, unless `end` is to be looked at too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) order: Order,
    pub(super) from: Option<Uuid>,
    /// The last one that is looked at.
    pub(super) end: Option<Uuid>,
    pub(super) limit: i64,
}

pub(super) async fn walk(
    readers: &sqlx::Pool<Postgres>,
    filter: &EventFilter,
    walk: Walk,
) -> Result<Walked, StoreError> {
    let limit = i64::from(walk.limit.clamp(1, 500));
    let stretch = Stretch { order: walk.order, from: walk.from, end: None, limit };
    let end = last_of(filter, stretch, walk.look_at).build().fetch_optional(readers).await?;
    let end = end.map(|row| row.uuid("id")).transpose()?;
    let rows = select(filter, Stretch { end, ..stretch }).build().fetch_all(readers).await?;
    let events = rows.iter().map(row::event).collect::<Result<Vec<_>, _>>()?;
    let is_full = i64::try_from(events.len()).is_ok_and(|count| count == limit);
    let next = if is_full { events.last().map(|event| event.id.uuid()) } else { end };
    Ok(Walked { events, next })
}

/// The event that is `look_at` places on, by the index of ids alone.
fn last_of(filter: &EventFilter, stretch: Stretch, look_at: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select id from sched_event where true");
    within(&mut query, filter, stretch);
    order(&mut query, stretch);
    query.push(" limit 1 offset ").push_bind(i64::from(look_at.max(1)) - 1);
    query
}

/// Bodies left out.
pub(super) fn select(filter: &EventFilter, stretch: Stretch) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new([WITHOUT_BODY, " where true"].concat());
    within(&mut query, filter, stretch);
    matching(&mut query, filter);
    order(&mut query, stretch);
    query.push(" limit ").push_bind(stretch.limit);
    query
}

fn order(query: &mut QueryBuilder<Postgres>, stretch: Stretch) {
    query.push(match stretch.order {
        Order::NewestFirst => " order by id desc",
        Order::OldestFirst => " order by id",
    });
}

/// By time too, so that partitions beyond it are not looked into.
fn within(query: &mut QueryBuilder<Postgres>, filter: &EventFilter, stretch: Stretch) {
    let (beyond, no_later, up_to, no_earlier) = match stretch.order {
        Order::NewestFirst => (" and id < ", " and created_at <= ", " and id >= ", " and created_at >= "),
        Order::OldestFirst => (" and id > ", " and created_at >= ", " and id <= ", " and created_at <= "),
    };
    if let Some(from) = stretch.from {
        query.push(beyond).push_bind(from).push(no_later).push_bind(at(from));
    }
    if let Some(end) = stretch.end {
        query.push(up_to).push_bind(end).push(no_earlier).push_bind(at(end));
    }
    if let Some(since) = filter.since {
        query.push(" and id >= ").push_bind(row::first_id(since));
        query.push(" and created_at >= ").push_bind(at(row::first_id(since)));
    }
    if let Some(until) = filter.until {
        query.push(" and id < ").push_bind(row::first_id(until));
        query.push(" and created_at < ").push_bind(time(until));
    }
}

fn matching(query: &mut QueryBuilder<Postgres>, filter: &EventFilter) {
    if let Some(namespace) = &filter.namespace {
        query.push(" and namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(kind) = filter.kind {
        query.push(" and kind = ").push_bind(kind.name());
    }
    if let Some(source) = &filter.source {
        query.push(" and (source = ").push_bind(source.clone());
        query.push(" or right(source, length(").push_bind(format!("/{source}"));
        query.push(")) = ").push_bind(format!("/{source}")).push(")");
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" and type = ").push_bind(event_type.clone());
    }
    if let Some(verdict) = &filter.verdict {
        query.push(" and verdict = ").push_bind(verdict.clone());
    }
    if let Some(sender) = filter.sender {
        query.push(" and sender = ").push_bind(sender.to_string());
    }
    if let Some(secret) = &filter.secret {
        query.push(" and secret = ").push_bind(secret.clone());
    }
    if let Some(original) = filter.replay_of {
        query.push(" and replay_of = ").push_bind(original.uuid());
    }
    if let Some(trigger) = &filter.trigger {
        query.push(" and (position(").push_bind(row::decision_mark(trigger)).push(" in decisions::text) > 0");
        if trigger.outcome.is_none() && !trigger.sources.is_empty() {
            query
                .push(" or verdict <> 'accepted' and source = any(")
                .push_bind(trigger.sources.clone())
                .push(")");
        }
        query.push(")");
    }
}
