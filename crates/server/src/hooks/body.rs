//! Reads a body no larger, no longer and no slower than is allowed, and only as far as there is room for it.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::room::Share;
use crate::{api::error::ApiError, config::HookLimits};

pub(super) async fn read(
    mut body: Body,
    max: u64,
    room: &mut Share,
    limits: &HookLimits,
) -> Result<Bytes, ApiError> {
    let start = Instant::now();
    let mut bytes = BytesMut::new();
    loop {
        let deadline = start + allowed_time(bytes.len(), limits);
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(ApiError::Timeout),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(_))) => return Err(ApiError::BadRequest("the body broke off".to_owned())),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > max {
            return Err(ApiError::TooLarge(max));
        }
        room.grow(data.len() as u64)?;
        bytes.extend_from_slice(&data);
    }
}

/// When the next piece must be there: after a grace time the whole must have come at the least rate.
fn allowed_time(received: usize, limits: &HookLimits) -> Duration {
    let at_rate = Duration::from_secs(received as u64 / limits.body_min_rate.max(1));
    limits.body_timeout.min(limits.body_grace + at_rate)
}

#[cfg(test)]
mod tests {
    use super::{super::room::Room, *};
    use crate::listen::Prefix;

    fn limits() -> HookLimits {
        HookLimits {
            body_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            body_min_rate: 1024,
            max_bytes_in_flight: 0,
            rate_per_second: 1,
            rate_burst: 1,
            trusted_proxies: Vec::new(),
            proxy_header: crate::config::ProxyHeader::XForwardedFor,
            public_url: String::new(),
            key_proxy: String::new(),
            key_authorities: std::path::PathBuf::new(),
            dedupe_for: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_half_way_is_to_come_again() {
        let room = Room::new(100);
        let mut other = room.enter(Prefix::Loopback, 60).expect("room");
        let mut mine = room.enter(Prefix::Loopback, 60).expect("room");
        other.grow(60).expect("room");
        let refused = read(Body::from(vec![b'x'; 60]), 60, &mut mine, &limits()).await;
        assert!(matches!(refused, Err(ApiError::Unavailable(_))), "{refused:?}");
        drop(other);
        assert_eq!(read(Body::from(vec![b'x'; 60]), 60, &mut mine, &limits()).await.expect("read").len(), 60);
    }

    #[test]
    fn time_grows_with_what_came_up_to_the_whole() {
        let limits = limits();
        let check = |received: usize, expected: u64| {
            assert_eq!(allowed_time(received, &limits).as_secs(), expected, "{received}");
        };
        check(0, 5);
        check(1024, 6);
        check(10 * 1024, 15);
        check(1024 * 1024, 30);
    }
}
