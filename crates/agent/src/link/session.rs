//! One connection from dial to close: hello, welcome, then a loop over everything that can wake it.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream::SplitStream};
use hetuflow_core::{
    fingerprint::Fingerprint,
    protocol::{Assignment, FromAgent, Hello, ToAgent, VERSION, Welcome},
};
use hetuflow_failpoint::failpoint;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Cut, End, Link,
    bodies::Bodies,
    dial::{PATIENCE, answer, dial, not_taken},
    outbox::{Item, Outbox},
    writer::{self, Socket},
};
use crate::{files::FileReports, journal::JournalError, runner::Answers};

/// Messages that are handled together, at most.
const AT_ONCE: usize = 64;

/// Answers that wait for the session; whoever has another waits.
const ANSWERS: usize = 64;

struct Session<'a> {
    link: &'a Link,
    incoming: SplitStream<Socket>,
    queue: mpsc::Sender<Message>,
    outbox: Outbox,
    files: FileReports,
    bodies: Bodies,
    /// What became of assignments that were not taken. A journal that fails ends the connection: then nothing was
    /// accepted, and the next hello says so.
    answers: Answers,
    answered: mpsc::Receiver<Result<FromAgent, JournalError>>,
    /// Chosen, and waiting for a place in the queue.
    next: Option<Item>,
    /// What the table has to say since it was last looked at.
    news: watch::Receiver<u64>,
    heard: Instant,
    /// After so long without a word the session counts as over.
    silence: Duration,
}

type Writer = AbortOnDropHandle<Result<(), Error>>;

/// Everything that can wake a session.
enum Wake {
    Stop,
    Incoming(Option<Result<Message, Error>>),
    Room(mpsc::OwnedPermit<Message>),
    Answered(Option<Result<FromAgent, JournalError>>),
    Ping,
    Changed,
    Silent,
    WriterEnded,
}

/// Connects and serves until one side ends it. `welcomed` tells how far it came.
pub(super) async fn hold(
    link: &Link,
    url: &str,
    stop: &CancellationToken,
    welcomed: &mut bool,
) -> Result<End, Cut> {
    let socket = tokio::select! {
        () = stop.cancelled() => return Ok(End::Stopped),
        socket = dial(link, url) => socket?,
    };
    let (sink, mut incoming) = socket.split();
    let (queue, writer) = writer::start(sink);
    let mut writer = AbortOnDropHandle::new(writer);
    failpoint!("hello.before");
    send(&queue, &hello(link).await?).await?;
    let welcome = timeout(PATIENCE, welcome(&mut incoming)).await.map_err(|_| Cut::Late("the hello"))??;
    *welcomed = true;
    tracing::info!(server.id = %welcome.server_id, session.epoch = welcome.session_epoch, "linked to the server");
    learn(link, &welcome.servers);
    for lease in &welcome.stop {
        link.runner.abandon(*lease).await;
    }
    let (answers, answered) = mpsc::channel(ANSWERS);
    let mut session = Session {
        link,
        answers,
        answered,
        incoming,
        queue,
        outbox: Outbox::new(link.runner.attempts.clone(), &welcome.keep),
        files: FileReports::new(link.watcher.clone(), welcome.session_epoch),
        bodies: Bodies::default(),
        next: None,
        news: link.runner.attempts.news(),
        heard: Instant::now(),
        silence: welcome.heartbeat.mul_f64(2.5),
    };
    let end = session.serve(stop, welcome.heartbeat, &mut writer).await?;
    drop(session);
    // What is in the queue still goes out; the server need not wait for it to be sure.
    let _ = timeout(PATIENCE, &mut writer).await;
    Ok(end)
}

fn learn(link: &Link, servers: &[Fingerprint]) {
    if let Some(keys) = &link.keys {
        keys.learn(servers);
    }
}

async fn hello(link: &Link) -> Result<FromAgent, Cut> {
    // What an earlier connection brought is in the journal, or is not: after this it is known which.
    link.runner.attempts.arrived().await;
    // Durable before it is sent: a journal that is rolled back later cannot say this number again.
    let journal_epoch = link.runner.journal.next_epoch().await?;
    Ok(FromAgent::Hello(Hello {
        protocol: VERSION,
        agent_id: link.agent_id.clone(),
        journal_id: link.runner.journal.id(),
        journal_epoch,
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: link.labels.clone(),
        slots: link.slots,
        held: link.runner.attempts.held(),
    }))
}

async fn welcome(incoming: &mut SplitStream<Socket>) -> Result<Welcome, Cut> {
    let said = answer(incoming).await?;
    if let ToAgent::Welcome(welcome) = said { Ok(welcome) } else { Err(not_taken(said)) }
}

async fn send(queue: &mpsc::Sender<Message>, message: &FromAgent) -> Result<(), Cut> {
    let text = serde_json::to_string(message)?;
    queue.send(Message::text(text)).await.map_err(|_| Cut::Closed)
}

impl Session<'_> {
    async fn serve(
        &mut self,
        stop: &CancellationToken,
        heartbeat: Duration,
        writer: &mut Writer,
    ) -> Result<End, Cut> {
        // Two chances for every heartbeat that the server expects.
        let mut ping = interval((heartbeat / 2).max(Duration::from_millis(10)));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.next.is_none() {
                self.next = self.choose().await;
            }
            match self.wake(stop, &mut ping, writer).await {
                Wake::Stop => return Ok(End::Stopped),
                Wake::Incoming(message) => {
                    if let Some(end) = self.receive_all(message).await? {
                        return Ok(end);
                    }
                }
                Wake::Room(permit) => self.say(permit).await?,
                Wake::Answered(Some(answer)) => self.outbox.answer(answer?),
                Wake::Ping => self.outbox.ping(),
                // The session holds a sender itself, so the queue of answers never ends.
                Wake::Changed | Wake::Answered(None) => {}
                Wake::Silent => return Err(Cut::Silent(self.silence)),
                Wake::WriterEnded => return Err(Cut::Closed),
            }
        }
    }

    async fn wake(&mut self, stop: &CancellationToken, ping: &mut Interval, writer: &mut Writer) -> Wake {
        let (due, silent) = (self.outbox.due(), self.heard + self.silence);
        tokio::select! {
            () = stop.cancelled() => Wake::Stop,
            message = self.incoming.next(), if self.outbox.has_room() => Wake::Incoming(message),
            answer = self.answered.recv(), if self.outbox.has_room() => Wake::Answered(answer),
            permit = self.queue.clone().reserve_owned(), if self.next.is_some() => {
                permit.map_or(Wake::WriterEnded, Wake::Room)
            }
            _ = self.news.changed() => Wake::Changed,
            // With something chosen already, a wake-up would choose nothing new: it would only spin, and
            // keep the writer that shares this thread from making room.
            () = self.files.changed(), if self.next.is_none() => Wake::Changed,
            _ = ping.tick() => Wake::Ping,
            () = sleep_until(due.map_or(silent, |due| due.min(silent))) => {
                if Instant::now() < silent { Wake::Changed } else { Wake::Silent }
            }
            _ = writer => Wake::WriterEnded,
        }
    }

    async fn choose(&mut self) -> Option<Item> {
        if let Some(message) = self.outbox.control() {
            return Some(Item::Message(Box::new(message)));
        }
        if let Some(message) = self.files.next().await {
            return Some(Item::Message(Box::new(message)));
        }
        self.outbox.output()
    }

    async fn say(&mut self, permit: mpsc::OwnedPermit<Message>) -> Result<(), Cut> {
        let message = match self.next.take() {
            Some(Item::Message(message)) => Some(Message::text(serde_json::to_string(&message)?)),
            Some(Item::Output(instance_id)) => self.outbox.piece(&self.link.runner.spools, instance_id).await,
            None => None,
        };
        if let Some(message) = message {
            permit.send(message);
            failpoint!("say.after");
        }
        Ok(())
    }

    /// With what has come together with it: an assignment follows its body, and many come at once.
    async fn receive_all(&mut self, first: Option<Result<Message, Error>>) -> Result<Option<End>, Cut> {
        let (mut next, mut count) = (Some(first), 0);
        while let Some(message) = next {
            if let Some(end) = self.receive(message).await? {
                return Ok(Some(end));
            }
            count += 1;
            let goes_on = count < AT_ONCE && self.outbox.has_room();
            next = if goes_on { self.incoming.next().now_or_never() } else { None };
        }
        Ok(None)
    }

    async fn receive(&mut self, message: Option<Result<Message, Error>>) -> Result<Option<End>, Cut> {
        let message = message.ok_or(Cut::Closed)?.map_err(|error| Cut::Broken(Box::new(error)))?;
        // The host slept, or this process was stopped: for the server the session may have been over for long, and
        // what it had sent may run elsewhere. Only a new hello can tell.
        if self.heard.elapsed() > self.silence {
            return Err(Cut::Silent(self.silence));
        }
        self.heard = Instant::now();
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => self.handle(message).await,
                Err(error) => {
                    // Not fatal: the next connection would bring it again.
                    tracing::warn!(%error, "the server sent a message that cannot be read");
                    Ok(None)
                }
            },
            Message::Binary(frame) => {
                self.bodies.receive(&frame);
                Ok(None)
            }
            Message::Close(_) => Err(Cut::Closed),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    async fn handle(&mut self, message: ToAgent) -> Result<Option<End>, Cut> {
        match message {
            ToAgent::Assign(assignment) => self.assign(*assignment),
            ToAgent::Cancel { lease } => self.link.runner.cancel(lease),
            ToAgent::ResultAck { lease, verdict } => self.link.runner.acknowledge(lease, verdict).await,
            ToAgent::FileAck { batch } => self.files.acknowledge(&batch).await,
            ToAgent::FileOutcomes { outcomes } => self.files.settle(&outcomes).await,
            ToAgent::FileRooms { rooms } => self.files.give_rooms(&rooms).await,
            ToAgent::Watches { watches } => self.link.watcher.set(watches),
            ToAgent::Servers { keys } => learn(self.link, &keys),
            ToAgent::Drain => return Ok(Some(End::Drained)),
            ToAgent::Refuse { reason } => return Err(Cut::Refused(reason)),
            // The spool is kept until the result is acknowledged, whatever is stored of it.
            ToAgent::OutputAck { .. }
            | ToAgent::Welcome(_)
            | ToAgent::Joined
            | ToAgent::Pong
            | ToAgent::Unknown => {}
        }
        Ok(None)
    }

    /// It is answered when the journal has it.
    fn assign(&mut self, assignment: Assignment) {
        let lease = assignment.lease;
        let body = self.bodies.take(lease.instance_id);
        self.outbox.expect(lease.instance_id);
        self.link.runner.assign(assignment, body, self.answers.clone());
    }
}
