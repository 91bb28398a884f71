//! One agent's connection from its hello to its end.
//!
//! What the agent says is handled in order, in batches of what has arrived. Results are stored while more is read, so
//! that those of many messages share a commit; they are acknowledged in their order. When too many are on their way, or
//! anything else is being stored, nothing more is read: an agent that is faster than the database is slowed by TCP.
//! What goes out passes the connection's outbox, which dispatch fills too.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{
    StreamExt,
    stream::{FuturesOrdered, ReadyChunks, SplitStream},
};
use hetuflow_core::{
    fingerprint::Fingerprint,
    id::EventId,
    labels::Labels,
    protocol::{self, Hello, ResultVerdict, ToAgent, Watch, Welcome},
    task::Lease,
};
use hetuflow_failpoint::failpoint;
use hetuflow_store::{Arrival, StoreError};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Gateway, Timing, follow,
    hello::{self, First},
    inbound::{self, Inbound, Stop},
    join::Visitor,
    watches, writer,
};
use crate::{
    AppState,
    hub::{
        Connection, SessionKey,
        outbox::{Outbox, Outgoing, outbox},
    },
    ingest::chain,
    results::{NotRecorded, Settling},
    triggers::TriggerSet,
};

/// Messages that are handled together, at most.
const BATCH: usize = 512;
/// Batches of results that may be on their way to the database before nothing more is read.
const MAX_SETTLING: usize = 64;

/// A connection that said hello and was taken.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: AppState,
    pub(super) timing: Timing,
    pub(super) key: SessionKey,
    pub(super) outbox: Outbox,
    pub(super) labels: watch::Receiver<Labels>,
    triggers: watch::Receiver<Arc<TriggerSet>>,
    /// What the agent was last told to watch.
    watches: Option<Vec<Watch>>,
    closing: CancellationToken,
    /// Results that are being stored, in the order in which they came.
    pub(super) settling: FuturesOrdered<Settling>,
    /// Events that the agent waits for, of which a task has ended.
    pub(super) ended: (mpsc::Sender<EventId>, mpsc::Receiver<EventId>),
    /// When the agent was last heard, or last kept waiting by us.
    heard: Instant,
}

/// All that can wake a session.
enum Wake {
    Heard(Vec<Result<Message, axum::Error>>),
    Settled(Result<Vec<(Lease, ResultVerdict)>, NotRecorded>),
    /// A task that the agent waits for.
    Ended(EventId),
    /// The set of triggers, or the agent's labels.
    WatchesChanged,
    Look,
    Closing,
}

pub(super) async fn serve(mut socket: WebSocket, visitor: Visitor, gateway: Gateway) {
    let timing = gateway.timing;
    let hello = match timeout(timing.hello, introduce(&mut socket, visitor, &gateway)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => {
            gateway.state.metrics.agents_refused.inc();
            return hello::refuse(socket, reason, timing).await;
        }
        Err(_) => return hello::refuse(socket, format!("no hello within {:?}", timing.hello), timing).await,
    };
    let span = tracing::info_span!("agent.session", agent.id = %hello.agent_id, agent.host = hello.hostname);
    converse(socket, visitor, hello, gateway).instrument(span).await;
}

/// Up to the hello of an agent that is who it says.
async fn introduce(socket: &mut WebSocket, visitor: Visitor, gateway: &Gateway) -> Result<Hello, String> {
    let Gateway { state, tries, .. } = gateway;
    let mut first = hello::read(socket).await?;
    if let First::Join(join) = first {
        visitor.join(&join, state, tries).await.map_err(|refused| refused.to_string())?;
        hello::joined(socket).await?;
        first = hello::read(socket).await?;
    }
    let First::Hello(hello) = first else { return Err("a second join".to_owned()) };
    visitor.known(hello, state, tries).await.map_err(|refused| refused.to_string())
}

async fn converse(mut socket: WebSocket, visitor: Visitor, hello: Hello, gateway: Gateway) {
    let Gateway { state, timing, .. } = gateway;
    failpoint!("hello.before_session");
    let arrival = Arrival { hello: &hello, key: visitor.key };
    let opened = match open(&mut socket, arrival, &state, timing).await {
        Ok(opened) => opened,
        Err(StoreError::NotAdmitted) => {
            state.metrics.agents_refused.inc();
            return hello::refuse(socket, visitor.not_admitted(&hello).to_string(), timing).await;
        }
        // Nothing to tell the agent to do: it dials again.
        Err(error) => return tracing::warn!(error = chain(&error), "the session could not be opened"),
    };
    let servers = match servers(&state, visitor).await {
        Ok(servers) => servers,
        Err(error) => return tracing::warn!(error = chain(&error), "the session could not be opened"),
    };
    tracing::info!(
        epoch = opened.epoch,
        kept = opened.keep.len(),
        stopped = opened.stop.len(),
        lost = opened.lost.len(),
        returned = opened.returned.len(),
        version = hello.version,
        "agent connected"
    );
    state.metrics.reports_fenced.add(opened.stop.len() as u64);
    failpoint!("hello.before_welcome");
    let Some((session, outgoing)) = Session::register(state, timing, hello, &opened, servers) else {
        return tracing::info!("a newer connection of this agent was quicker");
    };
    let (sink, stream) = socket.split();
    let write = writer::write(outgoing, sink, super::silence(&session.state), session.closing.clone());
    let writer = tokio::spawn(write.in_current_span());
    session.run(stream.ready_chunks(BATCH)).await;
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer of a connection failed");
    }
}

/// A hello that does not continue the known journal may only be late: it waited for the database while its agent
/// came back elsewhere. Only an agent that is still on this connection can have another journal.
async fn open(
    socket: &mut WebSocket,
    arrival: Arrival<'_>,
    state: &AppState,
    timing: Timing,
) -> Result<hetuflow_store::Session, StoreError> {
    let (store, lease, now) = (&state.store, state.config.agents.lease, state.clock.now());
    match store.open_session(arrival, state.server_id, lease, now, rand::random()).await {
        Err(doubt @ StoreError::InDoubt { session_epoch }) => {
            if !hello::is_there(socket, timing).await {
                return Err(doubt);
            }
            let now = state.clock.now();
            store.replace_journal(arrival, session_epoch, state.server_id, lease, now, rand::random()).await
        }
        opened => opened,
    }
}

/// An agent that shows a key knows servers by theirs.
async fn servers(state: &AppState, visitor: Visitor) -> Result<Vec<Fingerprint>, StoreError> {
    if visitor.key.is_some() { state.store.server_keys().await } else { Ok(Vec::new()) }
}

impl Session {
    /// Makes the connection known to everybody; `None` when a newer one of this agent is.
    fn register(
        state: AppState,
        timing: Timing,
        hello: Hello,
        opened: &hetuflow_store::Session,
        servers: Vec<Fingerprint>,
    ) -> Option<(Self, Outgoing)> {
        let (outbox, outgoing) = outbox();
        // Queued before the connection is known to anybody: nothing may come before the welcome.
        outbox.try_send(ToAgent::Welcome(Welcome {
            server_id: state.server_id,
            servers,
            session_epoch: opened.epoch,
            heartbeat: state.config.agents.heartbeat,
            keep: opened.keep.clone(),
            stop: opened.stop.clone(),
        }));
        let key = SessionKey { agent_id: hello.agent_id, epoch: opened.epoch };
        let (labels, labels_seen) = watch::channel(hello.labels);
        let closing = CancellationToken::new();
        let connection = Connection::new(opened, labels, hello.slots, outbox.clone(), closing.clone());
        if !state.hub.register(&key, connection) {
            return None;
        }
        if !opened.returned.is_empty() || !opened.lost.is_empty() {
            state.hub.put_back();
        }
        let mut triggers = state.triggers.subscribe();
        triggers.mark_changed();
        let (labels, watches, heard) = (labels_seen, None, Instant::now());
        let (settling, ended) = (FuturesOrdered::new(), mpsc::channel(follow::MAX_ENDED));
        let session =
            Self { state, timing, key, outbox, labels, triggers, watches, closing, settling, ended, heard };
        Some((session, outgoing))
    }

    async fn run(mut self, mut stream: ReadyChunks<SplitStream<WebSocket>>) {
        let mut look = interval(self.timing.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // An agent forgets the files of a trigger that it is not told of any more.
        let caught_up = tokio::select! {
            caught_up = self.state.triggers.caught_up(&*self.state.store) => matches!(caught_up, Ok(Some(_))),
            () = self.closing.cancelled() => false,
        };
        if !caught_up {
            self.triggers.mark_unchanged();
        }
        let reason = loop {
            let wake = self.wake(&mut stream, &mut look).await;
            if let Err(stop) = self.react(wake).await {
                break stop;
            }
        };
        tracing::info!(%reason, "agent disconnected");
        // From here on nothing is assigned to it; then others may see it gone.
        self.closing.cancel();
        if let Err(error) = self.state.store.close_session(&self.key.agent_id, self.key.epoch).await {
            tracing::warn!(error = chain(&error), "the session could not be closed; it runs out by itself");
        }
        self.state.hub.remove(&self.key);
    }

    async fn wake(&mut self, stream: &mut ReadyChunks<SplitStream<WebSocket>>, look: &mut Interval) -> Wake {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Wake::Closing,
            // What goes out may have to wait, so changes come before more input.
            Ok(()) = self.triggers.changed() => Wake::WatchesChanged,
            Ok(()) = self.labels.changed() => Wake::WatchesChanged,
            Some(settled) = self.settling.next() => Wake::Settled(settled),
            Some(event) = self.ended.1.recv() => Wake::Ended(event),
            heard = stream.next(), if self.settling.len() < MAX_SETTLING => Wake::Heard(heard.unwrap_or_default()),
            _ = look.tick() => Wake::Look,
        }
    }

    async fn react(&mut self, wake: Wake) -> Result<(), Stop> {
        match wake {
            Wake::Heard(messages) if messages.is_empty() => Err(Stop::Left),
            Wake::Heard(messages) => {
                let closing = self.closing.clone();
                let handled = tokio::select! {
                    handled = self.hear(messages) => handled,
                    // Only while it waits for room in the outbox of a connection that is over: every store
                    // call is safe to lose, because nothing was acknowledged.
                    () = closing.cancelled() => Err(Stop::Closed),
                };
                // Time that we took to store does not count as the agent's silence.
                self.heard = Instant::now();
                handled
            }
            Wake::Settled(settled) => {
                let acknowledged = self.acknowledge(settled).await;
                self.heard = Instant::now();
                acknowledged
            }
            Wake::Ended(event) => {
                let told = self.outcomes(&[event], true).await;
                self.heard = Instant::now();
                told
            }
            Wake::WatchesChanged => self.send_watches().await,
            Wake::Look => self.look(),
            Wake::Closing => Err(Stop::Closed),
        }
    }

    async fn hear(&mut self, messages: Vec<Result<Message, axum::Error>>) -> Result<(), Stop> {
        let mut batch = Vec::with_capacity(messages.len());
        let mut ended = Ok(());
        for message in messages {
            match message.map_err(Stop::Broken).and_then(|message| inbound::decode(&message)) {
                Ok(Some(message)) => batch.push(message),
                Ok(None) => {}
                // What came before it still counts.
                Err(stop) => {
                    ended = Err(stop);
                    break;
                }
            }
        }
        self.handle(batch).await?;
        ended
    }

    async fn handle(&mut self, batch: Vec<Inbound>) -> Result<(), Stop> {
        for run in inbound::runs(batch) {
            self.take(run).await?;
        }
        Ok(())
    }

    /// Sends everything that this agent shall watch.
    async fn send_watches(&mut self) -> Result<(), Stop> {
        let set = Arc::clone(&self.triggers.borrow_and_update());
        if !set.unreadable.is_empty() {
            let triggers: Vec<&str> = set.unreadable.iter().map(String::as_str).collect();
            tracing::error!(
                ?triggers,
                "stored triggers cannot be read by this server: the agent keeps its watches as they are"
            );
            return Ok(());
        }
        let labels = self.labels.borrow_and_update().clone();
        let watches = watches::wanted(&set, &labels);
        if self.watches.as_ref() == Some(&watches) {
            return Ok(());
        }
        let keys = watches.iter().map(|watch| watch.key.clone()).collect();
        let message = ToAgent::Watches { watches: watches.clone() };
        let size = writer::to_json(&message).len();
        if size > protocol::MAX_MESSAGE {
            tracing::error!(
                size,
                limit = protocol::MAX_MESSAGE,
                "too many file triggers for one agent: it keeps the last"
            );
            return Ok(());
        }
        self.watches = Some(watches);
        self.state.hub.watches(&self.key, keys);
        self.say(message).await
    }

    /// Looks at what only time can tell.
    fn look(&self) -> Result<(), Stop> {
        let reads = self.settling.len() < MAX_SETTLING;
        if reads && self.heard.elapsed() > super::silence(&self.state) {
            return Err(Stop::Silent);
        }
        let overdue = self.state.hub.overdue(&self.key, &self.timing.answer);
        if overdue.repeated > 0 {
            tracing::warn!(count = overdue.repeated, "assignments without an answer, sent again");
        }
        if overdue.hopeless { Err(Stop::Unanswered) } else { Ok(()) }
    }

    /// Queues a message for the agent; waits while the queue is full.
    pub(super) async fn say(&mut self, message: ToAgent) -> Result<(), Stop> {
        if self.outbox.send(message).await { Ok(()) } else { Err(Stop::Closed) }
    }
}
