//! What every request to the API must pass: it comes from a client on this machine, not from a web page that
//! a browser on it shows (DNS rebinding, cross-site requests), and its body is bounded.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri, header, uri::Authority};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::ApiError;

const MAX_BODY: u64 = 1024 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn this_machine_only(request: Request, next: Next) -> Response {
    match from_this_machine(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// As far as its head tells.
pub(crate) fn from_this_machine(request: &Request) -> Result<(), ApiError> {
    check(request.uri(), request.headers()).map_err(ApiError::Forbidden)
}

fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err("exactly one Host header is needed".to_owned()),
    };
    let named = uri.authority().map(Authority::as_str);
    if !is_loopback(host) || !named.is_none_or(is_loopback) {
        return Err("the Host must be loopback: localhost, 127.0.0.1 or [::1]".to_owned());
    }
    let own =
        |origin: &str| origin.strip_prefix("http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host));
    for origin in headers.get_all(header::ORIGIN) {
        if !origin.to_str().is_ok_and(own) {
            return Err("the Origin must be this server's own".to_owned());
        }
    }
    Ok(())
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    !authority.as_str().contains('@')
        && (host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback()))
}

/// Reads the whole body first, so that no handler waits for a slow one.
pub(super) async fn bounded_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let limit = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
    let body = match tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return ApiError::TooLarge(MAX_BODY).into_response();
        }
        Ok(Err(_)) => return ApiError::BadRequest("the body broke off".to_owned()).into_response(),
        Err(_) => return ApiError::Timeout.into_response(),
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        let check = |host: &str, origin: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header value"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a header value"));
            }
            let result = check(&Uri::from_static("/api/v1/events"), &headers);
            assert_eq!(result.is_ok(), expected, "{host} {origin:?}");
        };
        check("localhost:8080", None, true);
        check("127.0.0.1:8080", None, true);
        check("127.8.8.8", None, true);
        check("[::1]:8080", None, true);
        check("LOCALHOST", None, true);
        check("evil.example", None, false);
        check("localhost.evil.example", None, false);
        check("localhost@evil.example", None, false);
        check("evil@localhost", None, false);
        check("192.0.2.1:8080", None, false);
        check("", None, false);
        check("localhost:8080", Some("http://localhost:8080"), true);
        check("localhost:8080", Some("http://localhost:3000"), false);
        check("localhost:8080", Some("https://evil.example"), false);
        check("localhost:8080", Some("null"), false);
    }

    #[test]
    fn no_host_is_refused() {
        assert!(check(&Uri::from_static("/api/v1/events"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn an_absolute_target_counts_too() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        assert!(check(&Uri::from_static("http://evil.example/api/v1/events"), &headers).is_err());
    }
}
