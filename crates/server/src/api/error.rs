//! How a request fails, for whoever sent it: the one table of status codes, and RFC 9457 problems.
//! Nothing internal reaches a client: it gets a request id, and the log has the rest under that id.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hetuflow_core::trigger::Problems;
use hetuflow_store::StoreError;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    ingest::{IngestError, chain},
    intake::TooSlow,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error("the delivery could not be verified")]
    NotVerified,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(String),
    #[error("this path does not take this method")]
    MethodNotAllowed,
    #[error("the body did not arrive in time")]
    Timeout,
    #[error("{0}")]
    Conflict(String),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("{0}")]
    UnsupportedMedia(String),
    #[error("the text has problems")]
    Invalid(Problems),
    #[error("too many requests from this address")]
    TooMany { retry_after: u64 },
    #[error("{0}")]
    Unavailable(String),
    /// The text is for the log.
    #[error("something went wrong in the server")]
    Internal(String),
}

/// RFC 9457.
#[derive(Debug, Clone, Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Problems>,
    request_id: String,
}

impl ApiError {
    /// Status, the last part of the problem's `type`, title.
    const fn meaning(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request", "Bad request"),
            Self::NotVerified => (StatusCode::UNAUTHORIZED, "not-verified", "Not verified"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "Too slow"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::UnsupportedMedia(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type")
            }
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// Seconds after which another try makes sense.
    const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany { retry_after } => Some(*retry_after),
            Self::Unavailable(_) => Some(5),
            Self::BadRequest(_)
            | Self::NotVerified
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::MethodNotAllowed
            | Self::Timeout
            | Self::Conflict(_)
            | Self::TooLarge(_)
            | Self::UnsupportedMedia(_)
            | Self::Invalid(_)
            | Self::Internal(_) => None,
        }
    }

    /// The body is not read to its end, so the connection cannot be used again.
    const fn ends_connection(&self) -> bool {
        matches!(self, Self::Timeout | Self::TooLarge(_))
    }

    fn problem(&self, request_id: &str) -> Problem {
        let (status, kind, title) = self.meaning();
        let problems = if let Self::Invalid(problems) = self { Some(problems.clone()) } else { None };
        Problem {
            kind: format!("urn:hetuflow:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            problems,
            request_id: request_id.to_owned(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound(
                "nothing has this id, perhaps any more: retention drops what is old".to_owned(),
            ),
            StoreError::Conflict(reason) => Self::Conflict(reason),
            StoreError::Unavailable(_) => {
                tracing::warn!(error = chain(&error), "the database is away");
                Self::Unavailable("the database is not available".to_owned())
            }
            StoreError::NotLeader
            | StoreError::InDoubt { .. }
            | StoreError::NotAdmitted
            | StoreError::CorruptRow(_)
            | StoreError::Unfit(_)
            | StoreError::Database(_) => Self::Internal(chain(&error)),
        }
    }
}

/// Nothing is stored: who sent it comes again.
impl From<TooSlow> for ApiError {
    fn from(error: TooSlow) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Overloaded => Self::Unavailable("more is waiting than is allowed".to_owned()),
            // The reason was logged where the commit failed.
            IngestError::Store(_) => Self::Unavailable("the database did not commit".to_owned()),
        }
    }
}

impl IntoResponse for ApiError {
    /// Without a body: [`explain`] knows the request id and writes it.
    fn into_response(self) -> Response {
        let (status, ..) = self.meaning();
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.ends_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The outermost layer: gives every request an id, and every error its body.
pub(crate) async fn explain(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // What is logged on the way names the request that its sender was told.
    let span = tracing::error_span!("request", id = %id);
    let mut response = next.run(request).instrument(span).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && response.extensions().get::<ApiError>().is_none()
    {
        // The router's own answer: keeps its `Allow` and gets our body.
        response.extensions_mut().insert(ApiError::MethodNotAllowed);
    }
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if let ApiError::Internal(reason) = &error {
            tracing::error!(request.id = %id, %method, path, reason, "request failed");
        }
        write_problem(&mut response, &error.problem(&id));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn write_problem(response: &mut Response, problem: &Problem) {
    // Strings and numbers always serialize.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    *response.body_mut() = Body::from(body);
}
