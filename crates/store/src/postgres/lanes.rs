//! The numbers of the lanes of tasks: remembered, looked up, or given.

use std::collections::HashMap;

use hetuflow_core::{id::AgentId, task::NewTask};
use sqlx::PgConnection;

use crate::{StoreError, lanes::Lanes, row};

/// The number of each task's lane, by the lane's key. New ones are stored on `connection`, which is not in a
/// transaction unless all of them are known.
pub(super) async fn ids<'a>(
    lanes: &Lanes,
    connection: &mut PgConnection,
    tasks: impl Iterator<Item = &'a NewTask>,
) -> Result<HashMap<String, i64>, StoreError> {
    let mut wanted = HashMap::new();
    for task in tasks {
        wanted.insert(row::lane_key(task)?, task);
    }
    let mut ids = lanes.remembered(wanted.keys());
    wanted.retain(|key, _| !ids.contains_key(key));
    if wanted.is_empty() {
        return Ok(ids);
    }
    let found = find(connection, &wanted).await?;
    wanted.retain(|key, _| !found.contains_key(key));
    ids.extend(found);
    if !wanted.is_empty() {
        insert(connection, &wanted).await?;
        // Those that this or another server has just made.
        ids.extend(find(connection, &wanted).await?);
    }
    lanes.remember(&ids);
    Ok(ids)
}

async fn find(
    connection: &mut PgConnection,
    wanted: &HashMap<String, &NewTask>,
) -> Result<HashMap<String, i64>, StoreError> {
    let keys: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let rows: Vec<(String, i64)> = sqlx::query_as("select key, id from sched_lane where key = any($1)")
        .bind(keys)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}

async fn insert(connection: &mut PgConnection, wanted: &HashMap<String, &NewTask>) -> Result<(), StoreError> {
    // Sorted, so that two servers never wait for each other.
    let mut lanes: Vec<(&str, &NewTask)> = wanted.iter().map(|(key, task)| (key.as_str(), *task)).collect();
    lanes.sort_by_key(|(key, _)| *key);
    let selectors =
        lanes.iter().map(|(_, task)| row::json(&task.lane.selector)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "insert into sched_lane (key, selector, agent_id, priority)
         select key, selector::json, agent_id, priority
         from unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) as l(key, selector, agent_id, priority)
         on conflict (key) do nothing",
    )
    .bind(lanes.iter().map(|(key, _)| *key).collect::<Vec<_>>())
    .bind(selectors)
    .bind(lanes.iter().map(|(_, task)| task.lane.agent.as_ref().map(AgentId::as_str)).collect::<Vec<_>>())
    .bind(lanes.iter().map(|(_, task)| task.priority).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
