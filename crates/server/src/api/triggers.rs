//! Triggers: what is in force, what is wrong with the rest; and `trigger apply|check` for those who have no folder.

mod secrets;
pub(super) mod start;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{id::Namespace, trigger::Problems};
use hetuflow_store::{NewTrigger, StoredTrigger, TriggerChange};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Api, ApiError,
    declare::Origin,
    input::{Input, Params},
    page::Items,
};
use secrets::SecretUse;

use crate::{
    health::unwatched,
    triggers::{TriggerFolder, TriggerSet, parse_text},
};

/// The owner of what is applied here.
pub(super) const OWNER: &str = "api";
const MAX_TEXT: usize = 256 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    stored: StoredTrigger,
    /// A version of it is in force.
    live: bool,
    /// What keeps it, or a part of it, from working: a secret that is not set, a job that is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Shown {
    fn new(stored: StoredTrigger, set: &TriggerSet, unwatched: &[(String, String)]) -> Self {
        let key = format!("{}/{}", stored.namespace, stored.name);
        let mut warnings = set.warnings.get(&key).cloned().unwrap_or_default();
        let lonely = unwatched.iter().filter(|(lonely, _)| *lonely == key);
        warnings.extend(lonely.map(|(_, warning)| warning.clone()));
        Self { live: set.live.contains_key(&key), warnings, stored }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct In {
    #[serde(default)]
    namespace: Namespace,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Items<Shown>>, ApiError> {
    let set = in_force(&api).await?;
    let unwatched = unwatched(&api.app, &set).await;
    let shown = set.stored.iter().map(|one| Shown::new(one.clone(), &set, &unwatched));
    Ok(Json(Items::all(shown.collect())))
}

/// Everything that the store knew when it was asked, and in force: who is told that a trigger is gone may
/// rely on it that its hook is gone too.
pub(super) async fn in_force(api: &Api) -> Result<Arc<TriggerSet>, ApiError> {
    let generation = api.app.store.trigger_generation().await?;
    api.app.triggers.reach(generation).await;
    Ok(api.app.triggers.current())
}

#[derive(Debug, Serialize)]
pub(super) struct WithText {
    #[serde(flatten)]
    shown: Shown,
    /// The text of the revision in force.
    text: String,
    /// Those of its hooks, and when each was last of use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretUse>,
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(place): Params<In>,
) -> Result<Json<WithText>, ApiError> {
    let set = in_force(&api).await?;
    let stored = find(&set, &place.namespace, &name)?;
    let text = stored.text.clone();
    let secrets = secrets::uses(&api.app, &set, &stored).await?;
    let unwatched = unwatched(&api.app, &set).await;
    Ok(Json(WithText { shown: Shown::new(stored, &set, &unwatched), text, secrets }))
}

fn find(set: &TriggerSet, namespace: &Namespace, name: &str) -> Result<StoredTrigger, ApiError> {
    set.stored_as(namespace, name)
        .cloned()
        .ok_or_else(|| ApiError::NotFound(format!("there is no trigger {name:?} in namespace {namespace}")))
}

/// The text of a trigger file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    /// The name of a trigger that does not say its own; otherwise the last part of `origin`, without `.toml`.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Namespace,
    /// Where it came from, for messages.
    origin: String,
    #[serde(rename = "text")]
    content: String,
}

impl Text {
    fn parse(&self, now: Timestamp) -> Result<Result<Vec<NewTrigger>, Problems>, ApiError> {
        if self.content.len() > MAX_TEXT {
            return Err(ApiError::TooLarge(MAX_TEXT as u64));
        }
        let file = self.origin.rsplit('/').next().unwrap_or_default();
        let stem = file.strip_suffix(".toml").unwrap_or(file);
        let name = self.name.as_deref().unwrap_or(stem);
        Ok(parse_text(&self.origin, name, &self.namespace, &self.content, now))
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Checked {
    /// The names that it declares; empty when it has problems.
    triggers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Problems>,
}

pub(super) async fn check(
    State(api): State<Api>,
    Input(text): Input<Text>,
) -> Result<Json<Checked>, ApiError> {
    let checked = match text.parse(api.app.clock.now())? {
        Ok(triggers) => Checked { triggers: names(&triggers), problems: None },
        Err(problems) => Checked { triggers: Vec::new(), problems: Some(problems) },
    };
    Ok(Json(checked))
}

#[derive(Debug, Serialize)]
pub(super) struct Applied {
    triggers: Vec<String>,
    generation: i64,
}

/// In force on this server when it answers; on others within a second.
pub(super) async fn apply(
    State(api): State<Api>,
    Input(text): Input<Text>,
) -> Result<Json<Applied>, ApiError> {
    let now = api.app.clock.now();
    let triggers = text.parse(now)?.map_err(ApiError::Invalid)?;
    let names = names(&triggers);
    let changes: Vec<TriggerChange> = triggers.into_iter().map(TriggerChange::Put).collect();
    let generation = api.app.store.apply_triggers(OWNER, &changes, now).await?;
    api.app.triggers.reach(generation).await;
    Ok(Json(Applied { triggers: names, generation }))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
    Params(place): Params<In>,
) -> Result<StatusCode, ApiError> {
    let set = in_force(&api).await?;
    let stored = find(&set, &place.namespace, &name)?;
    // A folder that is not this server's may be gone for good; one that is would put the trigger back at once.
    if TriggerFolder::of(&api.app.config).is_some_and(|folder| folder.owner == stored.owner) {
        let file = stored.origin;
        return Err(ApiError::Conflict(format!("it belongs to this server's folder: delete {file}")));
    }
    let changes: Vec<TriggerChange> = removed_with(&stored, &set)
        .map(|name| TriggerChange::Remove { namespace: place.namespace.clone(), name })
        .collect();
    let generation = api.app.store.apply_triggers(&stored.owner, &changes, api.app.clock.now()).await?;
    api.app.triggers.reach(generation).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A job that was declared over the API goes with the schedules that were declared for it.
fn removed_with(stored: &StoredTrigger, set: &TriggerSet) -> impl Iterator<Item = String> {
    let declared = Origin::Jobs.is_of(stored);
    let its = move |one: &&StoredTrigger| {
        declared
            && Origin::Schedules.is_of(one)
            && one.namespace == stored.namespace
            && one.job_id == stored.job_id
    };
    let schedules = set.stored.iter().filter(its).map(|one| one.name.clone());
    std::iter::once(stored.name.clone()).chain(schedules)
}

fn names(triggers: &[NewTrigger]) -> Vec<String> {
    triggers.iter().map(|trigger| trigger.name.clone()).collect()
}
