//! One delivery, from its first byte to its answer.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hetuflow_core::{
    event::Verdict,
    id::{EventId, Namespace, StatusToken, TaskId},
    trigger::SenderSees,
};
use hetuflow_failpoint::failpoint;
use hetuflow_signature::{Judged, Request as Signed, Verified};
use hetuflow_store::{Ingest, Ingested};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::Serialize;

use super::{
    Hooks, body,
    delivery::Delivery,
    handshake, head,
    refuse::{observe, reject},
    sender,
    status::{self, EventStatus, TaskStatus},
    verify::verify,
};
use crate::{
    api::error::ApiError,
    intake::Candidates,
    listen::{Peer, Prefix},
    triggers::{Route, route_key},
};

/// The answer to a sender.
#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    event_id: EventId,
    task_ids: Vec<TaskId>,
    duplicate: bool,
    /// Where the sender may ask what became of it.
    #[serde(skip)]
    status: Option<StatusToken>,
}

/// A receipt for a sender that has waited.
#[derive(Debug, Serialize)]
struct Waited {
    #[serde(flatten)]
    receipt: Receipt,
    done: bool,
    tasks: Vec<TaskStatus>,
}

pub(super) async fn in_default_namespace(
    State(hooks): State<Arc<Hooks>>,
    Path(name): Path<String>,
    peer: Extension<Peer>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    receive(&hooks, Namespace::default(), name, peer.0, request).await
}

pub(super) async fn in_namespace(
    State(hooks): State<Arc<Hooks>>,
    Path((namespace, name)): Path<(String, String)>,
    peer: Extension<Peer>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let namespace = Namespace::new(namespace).map_err(|_| unknown())?;
    receive(&hooks, namespace, name, peer.0, request).await
}

#[tracing::instrument(name = "webhook.receive", skip_all, fields(hook.name = %name))]
async fn receive(
    hooks: &Hooks,
    namespace: Namespace,
    name: String,
    peer: Peer,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let metrics = &hooks.app.metrics;
    let sender = sender::of(peer.0.ip(), request.headers(), &hooks.app.config.hooks);
    if let Err(retry_after) = hooks.rates.check(Prefix::of(sender)) {
        metrics.hooks_limited.inc();
        return Err(ApiError::TooMany { retry_after });
    }
    let set = hooks.app.triggers.current();
    let key = route_key(namespace.as_str(), &name);
    let (parts, body) = request.into_parts();
    let headers = head::headers(&parts.headers);
    let now = hooks.app.clock.now();
    let delivery = Delivery { namespace, name, key, set, parts, headers, sender, now };
    let route = delivery.set.routes.get(&delivery.key).ok_or_else(unknown)?;
    let result = accept(hooks, &delivery, route, body).await;
    match &result {
        Ok(_) => {}
        Err(ApiError::NotVerified) => metrics.hooks_rejected.inc(),
        Err(ApiError::Unavailable(_)) => metrics.hooks_unavailable.inc(),
        Err(_) => metrics.hooks_limited.inc(),
    }
    result
}

async fn accept(hooks: &Hooks, delivery: &Delivery, route: &Route, body: Body) -> Result<Response, ApiError> {
    if delivery.parts.method != Method::POST && !route.scheme.answers_method(delivery.parts.method.as_str()) {
        return Err(ApiError::MethodNotAllowed);
    }
    if !route.lets_in(delivery.sender) {
        let reason = format!("{} is not in allow_from", delivery.sender);
        return Err(reject(hooks, delivery, route, Bytes::new(), reason));
    }
    let wait = status::wanted_wait(delivery.parts.uri.query())?;
    let size = head::announced_size(&delivery.parts.headers, route.max_body)?;
    head::check_encoding(&delivery.parts.headers)?;
    let (method, url) = (delivery.parts.method.as_str(), delivery.url(route, hooks));
    let head = Signed { method, url: &url, headers: &delivery.headers, body: b"" };
    let of_head = head::check_signature(route, &head, delivery.now)?;
    if let Err(reason) = &of_head
        && !route.observes(delivery.now)
    {
        return Err(reject(hooks, delivery, route, Bytes::new(), reason.clone()));
    }
    let mut room = hooks.room.enter(Prefix::of(delivery.sender), size)?;
    let body = body::read(body, route.max_body, &mut room, &hooks.app.config.hooks).await?;
    failpoint!("verify.before");
    let verified = match of_head {
        Ok(()) => verify(hooks, delivery, route, &body, &url).await?,
        Err(reason) => Err(reason),
    };
    let (judged, signers) = match verified {
        Ok(verified) => verified,
        Err(reason) if route.observes(delivery.now) => {
            return observe(hooks, delivery, route, body, reason).await;
        }
        Err(reason) => return Err(reject(hooks, delivery, route, body, reason)),
    };
    failpoint!("verify.after");
    let verified = match judged {
        Judged::Delivery(verified) => verified,
        Judged::Answer(answer) => return handshake::answer(hooks, delivery, route, body, answer).await,
        Judged::Ping { event_type, verified } => {
            return handshake::ping(hooks, delivery, route, body, event_type, verified, &signers).await;
        }
    };
    let signer = signers.of(route, &verified);
    let committed = commit(hooks, delivery, route, body, verified, signer).await;
    drop(room);
    let (receipt, response) = committed?;
    let answer = match (receipt, wait) {
        (receipt, _) if let Some(answer) = response.and_then(|body| said(route, body)) => {
            (receipt.location(), answer).into_response()
        }
        (receipt, Some(wait)) if route.sender_sees > SenderSees::Nothing => {
            receipt.after(hooks, wait).await?
        }
        (receipt, _) => receipt.into_response(),
    };
    failpoint!("answer.before");
    Ok(answer)
}

async fn commit(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: Bytes,
    verified: Verified,
    signer: Option<String>,
) -> Result<(Receipt, Option<String>), ApiError> {
    let metrics = &hooks.app.metrics;
    let event_type = verified.event_type.unwrap_or_else(|| "webhook".to_owned());
    let mut event = delivery.event(route, body, event_type);
    event.secret = signer;
    let candidates = Candidates::Route(delivery.key.clone());
    failpoint!("match.before");
    let judged = hooks.app.judge.try_to_judge(event, Arc::clone(&delivery.set), candidates).await?;
    failpoint!("match.after");
    let malformed = matches!(judged.event.verdict, Verdict::Malformed { .. });
    let dedupe = verified.dedupe_key.map(|key| delivery.dedupe(hooks, &key, verified.replay_key.as_deref()));
    let receipt = Receipt {
        event_id: judged.event.id,
        task_ids: judged.tasks.iter().map(|task| task.id).collect(),
        duplicate: false,
        status: judged.event.status_token,
    };
    let ingest = Ingest { event: judged.event, dedupe, tasks: judged.tasks };
    match hooks.app.ingester.submit(ingest).await? {
        Ingested::Stored => {
            let counter = if malformed { &metrics.hooks_malformed } else { &metrics.hooks_accepted };
            counter.inc();
            Ok((receipt, judged.response))
        }
        Ingested::Duplicate { event_id, task_ids, .. } => {
            metrics.hooks_duplicate.inc();
            // The first event may have gone by its age, before its key.
            let first = hooks.app.store.event(event_id).await.ok();
            let status = first.and_then(|first| first.status_token);
            Ok((Receipt { event_id, task_ids, duplicate: true, status }, judged.response))
        }
    }
}

/// The answer that the hook's trigger wants.
fn said(route: &Route, body: String) -> Option<Response> {
    let response = route.response.as_ref()?;
    let content_type = HeaderValue::from_str(&response.content_type).ok()?;
    let status = StatusCode::from_u16(response.status).ok()?;
    Some((status, [(header::CONTENT_TYPE, content_type)], body).into_response())
}

pub(super) fn unknown() -> ApiError {
    ApiError::NotFound("there is no such hook".to_owned())
}

impl Receipt {
    pub(crate) const fn new(event_id: EventId, task_ids: Vec<TaskId>, duplicate: bool) -> Self {
        Self { event_id, task_ids, duplicate, status: None }
    }

    /// The answer when everything that follows from the event has ended, or after so long.
    async fn after(self, hooks: &Hooks, wait: Duration) -> Result<Response, ApiError> {
        let EventStatus { done, tasks, .. } = status::wait_for(hooks, self.event_id, wait).await?;
        let code = if done { StatusCode::OK } else { self.code() };
        let location = self.location();
        Ok((code, location, Json(Waited { receipt: self, done, tasks })).into_response())
    }

    const fn code(&self) -> StatusCode {
        if self.duplicate { StatusCode::OK } else { StatusCode::ACCEPTED }
    }

    fn location(&self) -> HeaderMap {
        let address = self.status.and_then(|token| HeaderValue::from_str(&status::location(token)).ok());
        address.into_iter().map(|address| (header::LOCATION, address)).collect()
    }
}

impl IntoResponse for Receipt {
    fn into_response(self) -> Response {
        (self.code(), self.location(), Json(self)).into_response()
    }
}
