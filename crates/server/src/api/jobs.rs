//! Jobs: what there is to run, and jobs that are declared without a file. Who declares one so starts it with schedules of
//! `schedules/item`, with triggers that name it, or by hand.

use axum::{
    Json,
    extract::{Path, State},
};
use hetuflow_core::{
    id::{JobId, Namespace},
    job::Job,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Api, ApiError,
    declare::{Origin, declare},
    input::{Input, Params, id},
    page::Items,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    namespace: Option<Namespace>,
    name: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items<Job>>, ApiError> {
    let mut jobs = api.app.store.jobs().await?;
    jobs.retain(|job| filter.namespace.as_ref().is_none_or(|namespace| *namespace == job.namespace));
    jobs.retain(|job| filter.name.as_ref().is_none_or(|name| *name == job.name));
    Ok(Json(Items::all(jobs)))
}

pub(super) async fn show(State(api): State<Api>, Path(job): Path<String>) -> Result<Json<Job>, ApiError> {
    Ok(Json(api.app.store.job(id::<JobId>(&job)?).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJob {
    #[serde(default, alias = "namespace")]
    namespace_id: Namespace,
    name: String,
    #[serde(default)]
    description: String,
    /// Beside `config.environment`, which goes before.
    #[serde(default)]
    environment: Map<String, Value>,
    /// The keys of `[job]`.
    config: Map<String, Value>,
}

/// A trigger of the same name that is started by hand only.
pub(super) async fn create(
    State(api): State<Api>,
    Input(new): Input<NewJob>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let NewJob { namespace_id, name, description, environment: mut variables, mut config } = new;
    if let Some(Value::Object(more)) = config.remove("environment") {
        variables.extend(more);
    }
    if !variables.is_empty() {
        config.insert("environment".to_owned(), Value::Object(variables));
    }
    let file = json!({ "description": description, "on": { "api": {} }, "job": config });
    let Value::Object(file) = file else { return Err(ApiError::Internal("an object is none".to_owned())) };
    let declared = declare(&api, Origin::Jobs, &namespace_id, &name, file).await?;
    let job = api.app.store.job_named(&namespace_id, &declared.stored.name).await?;
    let status = if declared.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(job)))
}
