//! What is judged before the body is read.

use hetuflow_signature::{Rejection, Request as Signed, Waiting};
use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::{api::error::ApiError, triggers::Route};

/// Headers that are never stored in clear, whatever the scheme.
const ALWAYS_SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
const REDACTED: &str = "[redacted]";

/// In the order received, as the scheme wants them.
pub(super) fn headers(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// The bytes of body that there may be: what the head announces, or all that the hook allows.
pub(super) fn announced_size(map: &HeaderMap, max: u64) -> Result<u64, ApiError> {
    let Some(value) = map.get(header::CONTENT_LENGTH) else { return Ok(max) };
    let size = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match size {
        Some(size) if size <= max => Ok(size),
        // hyper has refused what is not a number, so this is one beyond all bounds.
        Some(_) | None => Err(ApiError::TooLarge(max)),
    }
}

pub(super) fn check_encoding(map: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if map.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMedia("the body must not have a Content-Encoding".to_owned()))
}

/// Why the head alone shows that the delivery is not authentic. A header that came twice is not a matter
/// of authenticity: no two readers agree on what it means.
pub(super) fn check_signature(
    route: &Route,
    head: &Signed<'_>,
    now: Timestamp,
) -> Result<Result<(), String>, ApiError> {
    if route.secrets.is_empty() && !route.finds_keys() && route.waiting() == Waiting::No {
        return Ok(Err(route.missing_secrets.join("; ")));
    }
    match route.scheme.check_head(head, Some(now)) {
        Ok(()) => Ok(Ok(())),
        Err(rejection @ Rejection::Repeated(_)) => Err(ApiError::BadRequest(rejection.to_string())),
        Err(rejection) => Ok(Err(rejection.to_string())),
    }
}

/// What is stored of the headers.
pub(super) fn stored(headers: &[(String, Vec<u8>)], route: &Route) -> Vec<(String, String)> {
    let secret = |name: &str| {
        ALWAYS_SECRET.contains(&name) || route.secret_headers.iter().any(|secret| secret.as_str() == name)
    };
    headers
        .iter()
        .map(|(name, value)| {
            let value = if secret(name) { REDACTED.into() } else { String::from_utf8_lossy(value) };
            (name.clone(), value.into_owned())
        })
        .collect()
}

/// What is stored of the query: secrets and tokens in it are not.
pub(super) fn stored_query(query: &str, route: &Route) -> String {
    if route.secret_parameters.is_empty() {
        return query.to_owned();
    }
    let part = |part: &str| {
        let name = form_urlencoded::parse(part.as_bytes()).next().map(|(name, _)| name.into_owned());
        match name.filter(|name| route.secret_parameters.contains(name)) {
            Some(name) => format!("{name}={REDACTED}"),
            None => part.to_owned(),
        }
    };
    query.split('&').map(part).collect::<Vec<_>>().join("&")
}
