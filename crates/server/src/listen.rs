//! How connections come in: an accept loop of our own on every listener. `axum::serve` installs no timer, so
//! a request head that is never finished would stay open for ever; this one has a deadline for
//! the head (which is also that of an idle connection) and for whoever takes nothing of its answer, bounds on the head's
//! size, and caps on connections.
//! Bodies are bounded by whoever reads them. Step 1 of the walk.

mod caps;
mod doors;
mod patience;
mod prefix;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hetuflow_core::{fingerprint::Fingerprint, network::Network};
use hetuflow_trust::{Acceptor, is_handshake};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{config::Limits, hooks::is_trusted, metrics::Metrics};
use caps::Caps;
use patience::Patient;

pub(crate) use doors::Door;
pub use doors::{Addresses, BindError, Entrance, Listeners};
pub(crate) use prefix::Prefix;

/// Accept errors that are not of one connection (no descriptor is free) are waited out.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A handshake must be done this soon.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Who is at the other end, as an extension of every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// How they have shown who they are, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Not at all.
    Plain,
    /// By TLS, with this key.
    Key(Fingerprint),
}

/// What the connections of a listener are given, and who is told of them.
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) proxies: Vec<Network>,
    /// Takes handshakes, where there may be some; what is not one is plain HTTP.
    pub(crate) tls: Option<Acceptor>,
    /// Knows when all have ended.
    pub(crate) connections: TaskTracker,
    /// No more of them; each finishes what it began.
    pub(crate) shutdown: CancellationToken,
    /// They have had their time.
    pub(crate) cut: CancellationToken,
}

struct Rules {
    http: http1::Builder,
    caps: Caps,
    /// The first byte must be there this soon; the rest of the head then has as long.
    first_word: Duration,
    /// As long may nothing of an answer go.
    answer: Duration,
    shared: Shared,
}

/// Accepts until the shutdown.
pub(crate) async fn serve(listener: TcpListener, limits: Limits, shared: Shared) {
    let caps = Caps::new(limits.max_connections, limits.max_connections_per_prefix);
    let shutdown = shared.shutdown.clone();
    let (first_word, answer) = (limits.head_timeout, limits.answer_timeout);
    let rules = Arc::new(Rules { http: builder(&limits), caps, first_word, answer, shared });
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                admit(&rules, stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted now");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_header_size(limits.max_head_size)
        .max_headers(limits.max_head_lines);
    http
}

fn admit(rules: &Arc<Rules>, stream: TcpStream, peer: SocketAddr) {
    // Behind a proxy of ours are many, who share its connections.
    let one =
        if is_trusted(peer.ip(), &rules.shared.proxies) { Prefix::Loopback } else { Prefix::of(peer.ip()) };
    let Some(place) = rules.caps.enter(one) else {
        // Dropped, hence closed: an answer would cost what the cap is there to save.
        rules.shared.metrics.connections_refused.inc();
        return;
    };
    rules.shared.metrics.connections_accepted.inc();
    // Answers are small and complete; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let held = Arc::clone(rules);
    rules.shared.connections.spawn(async move {
        let place = place;
        tokio::select! {
            () = listen_to(&held, stream, peer) => {}
            () = held.shared.cut.cancelled() => {}
        }
        drop(place);
    });
}

/// Nothing is made ready for a connection that has said nothing: ten thousand of those take little more than their sockets.
async fn listen_to(rules: &Rules, stream: TcpStream, peer: SocketAddr) {
    // Looked at, not taken; an end is none.
    let mut first = [0];
    let said = tokio::select! {
        said = timeout(rules.first_word, stream.peek(&mut first)) => said,
        () = rules.shared.shutdown.cancelled() => return,
    };
    if matches!(said, Ok(Ok(1))) {
        let stream = Patient::new(stream, rules.answer);
        // In a place of its own, or every silent one would have room for it.
        match &rules.shared.tls {
            Some(tls) if is_handshake(first[0]) => Box::pin(shake_hands(rules, tls, stream, peer)).await,
            Some(_) | None => Box::pin(converse(rules, stream, peer, Caller::Plain)).await,
        }
    }
}

async fn shake_hands(rules: &Rules, tls: &Acceptor, stream: Patient<TcpStream>, peer: SocketAddr) {
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => shaken,
        () = rules.shared.shutdown.cancelled() => return,
    };
    match shaken {
        Ok(Ok((stream, key))) => return converse(rules, stream, peer, Caller::Key(key)).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
    rules.shared.metrics.handshakes_failed.inc();
}

async fn converse<S>(rules: &Rules, stream: S, peer: SocketAddr, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(caller);
        rules.shared.router.clone().oneshot(request)
    });
    let connection = rules.http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = rules.shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// The peer gave up before it was accepted; the next one is not concerned.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
