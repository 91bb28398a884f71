//! Where webhooks come in: `POST /hooks/{name}` and `/hooks/{namespace}/{name}`, where providers ask what their scheme knows,
//! with other methods, and where senders ask what became of a delivery; nothing else.
//!
//! The order of the controls is fixed, each cheaper than the next: route, rate of the sender, hook, who may send, head,
//! room for the body, body, signature; only then is anything parsed ([`crate::intake`]), committed and answered. Steps 2
//! to 5 of the walk.

mod body;
mod delivery;
mod handshake;
mod head;
mod rate;
mod receive;
mod refuse;
mod room;
mod samples;
mod sender;
mod status;
mod verify;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{MethodFilter, get, on},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{AppState, keys::Keyring};
pub(crate) use rate::Rates;
pub(crate) use receive::Receipt;
use room::Room;
use samples::Samples;
pub(crate) use sender::is_trusted;

/// Senders that wait for an end or read output, at most. The next one gets its answer without waiting, or 503.
const MAX_WATCHERS: usize = 256;
/// Refused deliveries of one hook that are kept in a minute.
const SAMPLES: u32 = 10;
/// Deliveries that a hook takes unverified in a minute.
const OBSERVED: u32 = 600;
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What all deliveries share.
pub(crate) struct Hooks {
    app: AppState,
    rates: Rates,
    keys: Keyring,
    /// For the bytes of bodies in flight.
    room: Room,
    samples: Samples,
    /// What hooks that only observe take.
    observed: Samples,
    /// One permit for each sender that waits for an end or reads output.
    watchers: Arc<Semaphore>,
    /// Ends what would otherwise go on for as long as its reader likes.
    shutdown: CancellationToken,
}

impl Hooks {
    pub(crate) fn new(app: AppState, shutdown: CancellationToken) -> Arc<Self> {
        let limits = &app.config.hooks;
        let rates = Rates::new(limits.rate_per_second, limits.rate_burst);
        let room = Room::new(limits.max_bytes_in_flight);
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        let (samples, observed) = (Samples::new(SAMPLES), Samples::new(OBSERVED));
        let keys = Keyring::new(limits, Arc::clone(&app.metrics));
        Arc::new(Self { app, rates, keys, room, samples, observed, watchers, shutdown })
    }
}

/// Forgets senders that have their whole allowance again, now and then.
pub(crate) async fn sweep(hooks: Arc<Hooks>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {
                hooks.rates.sweep();
                hooks.keys.sweep();
            }
        }
    }
}

pub(crate) fn router(hooks: Arc<Hooks>) -> Router {
    Router::new()
        .route("/hooks/{name}", on(METHODS, receive::in_default_namespace))
        .route("/hooks/{namespace}/{name}", on(METHODS, receive::in_namespace))
        .route("/hooks/-/status/{token}", get(status::show))
        .with_state(hooks)
}

/// GET stands for HEAD too. Which of them a hook takes besides POST is its scheme's word.
const METHODS: MethodFilter = MethodFilter::POST.or(MethodFilter::GET).or(MethodFilter::OPTIONS);
