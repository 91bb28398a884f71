//! Where agents dial in: one WebSocket per agent, one session per connection.
//!
//! Owns the connections from upgrade to close and everything an agent says on them; what to run where is
//! [`crate::dispatch`]'s matter. `run` serves [`router`] on the agent listener and starts
//! [`keep_sessions`]. Steps 7 (push) and 10 (report) of the walk.

mod follow;
mod hello;
mod inbound;
mod join;
mod keep;
mod servers;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod watches;
mod writer;

use std::time::Duration;

use axum::{
    Extension, Router,
    extract::{State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hetuflow_core::protocol;
use join::Visitor;

pub(crate) use join::Tries;
pub(crate) use keep::keep_sessions;

use crate::{
    AppState,
    hub::Patience,
    listen::{Caller, Peer},
};

/// Frames are as large as messages, because the usual clients never split a message.
const MAX_FRAME: usize = protocol::MAX_MESSAGE;
const READ_BUFFER: usize = 8 * 1024;
const WRITE_BUFFER: usize = 8 * 1024;
/// Must hold one whole message besides what is buffered.
const MAX_WRITE_BUFFER: usize = protocol::MAX_MESSAGE + 64 * 1024;

/// What a session waits for besides what the configuration says, and how long. Tests shorten it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the upgrade to the hello.
    pub(crate) hello: Duration,
    pub(crate) answer: Patience,
    /// How often a session looks at its own clocks.
    pub(crate) look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            answer: Patience { repeat: Duration::from_secs(5), give_up: Duration::from_secs(15) },
            look: Duration::from_secs(1),
        }
    }
}

/// Silence, in either direction, after which a connection is as good as cut.
fn silence(state: &AppState) -> Duration {
    state.config.agents.heartbeat.mul_f64(2.5)
}

#[derive(Debug, Clone)]
struct Gateway {
    state: AppState,
    timing: Timing,
    tries: Tries,
}

/// `GET /agent/v1`, and nothing else.
pub(crate) fn router(state: AppState, tries: Tries) -> Router {
    routes(Gateway { state, timing: Timing::default(), tries }).layer(middleware::from_fn(join::guard))
}

#[cfg(test)]
pub(crate) fn router_with(state: AppState, timing: Timing) -> Router {
    routes(Gateway { state, timing, tries: Tries::default() })
}

fn routes(gateway: Gateway) -> Router {
    Router::new().route(protocol::PATH, get(upgrade)).with_state(gateway)
}

async fn upgrade(
    State(gateway): State<Gateway>,
    caller: Option<Extension<Caller>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Only browsers send it, and no agent is one: a page must not talk to this port from inside.
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "agents send no Origin header\n").into_response();
    }
    if gateway.state.hub.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "the server stops\n")
            .into_response();
    }
    let visitor = Visitor::new(caller.map(|Extension(caller)| caller), peer.map(|Extension(peer)| peer));
    let upgrade = upgrade.protocols([protocol::SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let advice = format!("offer the subprotocol {}\n", protocol::SUBPROTOCOL);
        return (StatusCode::BAD_REQUEST, advice).into_response();
    }
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(protocol::MAX_MESSAGE)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| session::serve(socket, visitor, gateway))
}
