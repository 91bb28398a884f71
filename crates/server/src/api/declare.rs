//! Trigger files out of JSON, for who has no folder: `jobs/item` and `schedules/item` write one, and the same reader checks it.

use hetuflow_core::id::Namespace;
use hetuflow_store::{StoredTrigger, TriggerChange};
use serde_json::{Map, Value};

use super::{
    Api, ApiError,
    triggers::{OWNER, in_force},
};
use crate::triggers::parse_text;

/// Which request declares it; who declared a trigger in another way may not lose it to this one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    Jobs,
    Schedules,
}

impl Origin {
    const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs/item",
            Self::Schedules => "schedules/item",
        }
    }

    pub(super) fn is_of(self, stored: &StoredTrigger) -> bool {
        stored.owner == OWNER && stored.origin == self.name()
    }
}

/// A declared trigger.
pub(super) struct Declared {
    pub(super) stored: StoredTrigger,
    pub(super) is_new: bool,
}

/// Puts it in force, in the place of what the same request declared before under this name.
pub(super) async fn declare(
    api: &Api,
    origin: Origin,
    namespace: &Namespace,
    name: &str,
    file: Map<String, Value>,
) -> Result<Declared, ApiError> {
    let now = api.app.clock.now();
    let text = text(file)?;
    let triggers = parse_text(origin.name(), name, namespace, &text, now).map_err(ApiError::Invalid)?;
    let set = in_force(api).await?;
    let earlier = set.stored_as(namespace, name);
    if let Some(earlier) = earlier.filter(|earlier| !origin.is_of(earlier)) {
        let reason = format!("there is a trigger {name:?} already, from {}", earlier.origin);
        return Err(ApiError::Conflict(reason));
    }
    let changes: Vec<TriggerChange> = triggers.into_iter().map(TriggerChange::Put).collect();
    api.app.store.apply_triggers(OWNER, &changes, now).await?;
    let stored = in_force(api).await?.stored_as(namespace, name).cloned();
    let stored = stored.ok_or_else(|| ApiError::Conflict("it was removed at the same time".to_owned()))?;
    Ok(Declared { stored, is_new: earlier.is_none() })
}

/// As TOML, which knows no null: what is null is not there.
fn text(mut file: Map<String, Value>) -> Result<String, ApiError> {
    without_nulls(&mut file);
    toml::to_string(&file).map_err(|error| ApiError::BadRequest(format!("a value cannot be kept: {error}")))
}

fn without_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    for value in map.values_mut() {
        match value {
            Value::Object(map) => without_nulls(map),
            Value::Array(values) => {
                values.iter_mut().filter_map(Value::as_object_mut).for_each(without_nulls);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
