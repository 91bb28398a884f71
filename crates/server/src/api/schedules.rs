//! Schedules that a clock drives, and daemons: what there is, when each fires next, and how each daemon is.

pub(super) mod create;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    id::{Namespace, ScheduleId},
    schedule::{ClockEffect, Upcoming},
};
use hetuflow_store::{Page, PlannedSchedule, ScheduleFilter, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Api, ApiError,
    input::{Params, id},
    page::{Items, cursor_page},
};

const DEFAULT_COUNT: u32 = 5;
const MAX_COUNT: u32 = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    namespace: Option<Namespace>,
    trigger: Option<String>,
    limit: Option<u32>,
    cursor: Option<Uuid>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items<PlannedSchedule>>, ApiError> {
    let page = cursor_page(filter.limit, filter.cursor)?;
    let filter = ScheduleFilter { id: None, namespace: filter.namespace, trigger: filter.trigger };
    let schedules = api.app.store.schedules(&filter, page).await?;
    Ok(Json(Items::new(schedules, page, |one| one.schedule.id.uuid())))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Count {
    count: Option<u32>,
}

/// The next fires of one schedule.
#[derive(Debug, Serialize)]
pub(super) struct Next {
    #[serde(flatten)]
    planned: PlannedSchedule,
    items: Vec<Fire>,
}

#[derive(Debug, Serialize)]
struct Fire {
    at: Timestamp,
    /// The same instant on the schedule's own clock, with its offset.
    local: String,
    timezone: String,
    /// When its run starts; null when it will not run.
    starts_at: Option<Timestamp>,
    /// What is unusual about it: a change of the clocks, a blackout, jitter.
    notes: Vec<String>,
}

pub(super) async fn next(
    State(api): State<Api>,
    Path(schedule): Path<String>,
    Params(Count { count }): Params<Count>,
) -> Result<Json<Next>, ApiError> {
    let id: ScheduleId = id(&schedule)?;
    let count = count.unwrap_or(DEFAULT_COUNT);
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(ApiError::BadRequest(format!("count is 1 to {MAX_COUNT}")));
    }
    let filter = ScheduleFilter { id: Some(id), ..ScheduleFilter::default() };
    let found = api.app.store.schedules(&filter, Page { before: None, limit: 1 }).await?;
    let planned = found.into_iter().next().ok_or(StoreError::NotFound)?;
    let from = planned.schedule.next_run_at.map(|next| next.max(api.app.clock.now()));
    let set = api.app.triggers.current();
    // Without a next time it has ended; without the other its trigger is not in force here.
    let items = from.zip(set.clocked(id)).map_or_else(Vec::new, |(from, (_, clocked))| {
        let count = usize::try_from(count).unwrap_or_default();
        let fires = clocked.schedule.upcoming(clocked.created_at, &clocked.key, from, count);
        fires.iter().map(fire).collect()
    });
    Ok(Json(Next { planned, items }))
}

fn fire(fire: &Upcoming) -> Fire {
    Fire {
        at: fire.at,
        local: fire.local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        timezone: fire.local.time_zone().iana_name().unwrap_or("UTC").to_owned(),
        starts_at: fire.starts_at,
        notes: notes(fire),
    }
}

fn notes(fire: &Upcoming) -> Vec<String> {
    let effect = fire.effect.map(|effect| match effect {
        ClockEffect::ShiftedFrom(named) => {
            format!("shifted out of the gap: {} does not exist on that day", named.time())
        }
        ClockEffect::FirstOfTwo => "this local time occurs twice: the first".to_owned(),
        ClockEffect::SecondOfTwo => "this local time occurs twice: the second".to_owned(),
    });
    let start = match (fire.blackout_until, fire.starts_at) {
        (Some(end), Some(_)) => Some(format!("blackout until {end}: it starts then")),
        (Some(end), None) => Some(format!("blackout until {end}: it does not run")),
        (None, Some(start)) if start > fire.at => {
            Some(format!("jitter of {:#}", start.duration_since(fire.at)))
        }
        (None, _) => None,
    };
    effect.into_iter().chain(start).collect()
}
