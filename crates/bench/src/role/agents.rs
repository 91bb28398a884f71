//! Agents that run nothing: every assignment is accepted, started and ended at once, over the real protocol and real
//! connections. What an agent with processes would add (journal, fork, output) is left out on purpose.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use hetuflow_core::{
    Clock,
    id::{AgentId, JournalId},
    labels::Labels,
    protocol::{self, FromAgent, Hello, ResultVerdict, RunResult, ToAgent, frame::Frame},
    task::{Lease, Outcome},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, sync::Notify, time::interval};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{monotonic, payload, spread::Waits};

/// Messages that are answered together.
const BATCH: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `ws://HOST:PORT`
    #[arg(long)]
    url: String,
    #[arg(long)]
    count: u32,
    /// Assignments that each takes at once
    #[arg(long)]
    slots: u32,
    /// Say the tally after this many results were acknowledged
    #[arg(long)]
    expect: u64,
    /// Or after this many seconds
    #[arg(long)]
    within: u64,
}

/// All agents are connected.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) connected: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Results that the server says it has stored.
    pub(crate) acknowledged: u64,
    pub(crate) fenced: u64,
    pub(crate) first_assigned: u64,
    pub(crate) last_acknowledged: u64,
    /// From the sending of an event to its assignment's arrival, where the event says when it was sent.
    pub(crate) start: Option<Waits>,
}

/// What all agents count together.
#[derive(Debug, Default)]
struct Counted {
    acknowledged: AtomicU64,
    fenced: AtomicU64,
    first_assigned: AtomicU64,
    last_acknowledged: AtomicU64,
    waits: Mutex<Vec<u64>>,
    changed: Notify,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let counted = Arc::new(Counted::default());
    let mut agents = Vec::new();
    for n in 0..args.count {
        agents.push(Agent::connect(&args, n, Arc::clone(&counted)).await?);
    }
    let running: Vec<_> = agents.into_iter().map(|agent| tokio::spawn(agent.run())).collect();
    super::say(&Ready { connected: args.count })?;
    let everything = async {
        while counted.acknowledged.load(Ordering::Relaxed) < args.expect {
            counted.changed.notified().await;
        }
    };
    // Too few is for the benchmark to say.
    let _ = tokio::time::timeout(Duration::from_secs(args.within), everything).await;
    for agent in &running {
        if agent.is_finished() {
            eprintln!("an agent's connection ended before its time");
        }
    }
    super::say(&counted.tally())?;
    super::until_dismissed().await
}

impl Counted {
    fn tally(&self) -> Tally {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        Tally {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            fenced: self.fenced.load(Ordering::Relaxed),
            first_assigned: self.first_assigned.load(Ordering::Relaxed),
            last_acknowledged: self.last_acknowledged.load(Ordering::Relaxed),
            start: Waits::of(&waits),
        }
    }

    fn assigned(&self, sent: Option<u64>) {
        let now = monotonic::now();
        let _ = self.first_assigned.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        if let Some(sent) = sent {
            let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            waits.push(now.saturating_sub(sent));
        }
    }

    fn acknowledged(&self, count: u64, fenced: u64) {
        self.last_acknowledged.store(monotonic::now(), Ordering::Relaxed);
        self.fenced.fetch_add(fenced, Ordering::Relaxed);
        self.acknowledged.fetch_add(count, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

struct Agent {
    slots: u32,
    heartbeat: Duration,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    counted: Arc<Counted>,
    clock: Clock,
    /// Of the assignment that comes next.
    sent: Option<u64>,
}

impl Agent {
    async fn connect(args: &Args, n: u32, counted: Arc<Counted>) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let mut request = format!("{}{}", args.url, protocol::PATH).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", protocol::SUBPROTOCOL.parse()?);
        let (socket, _) = connect_async(request).await.context("the server takes no agent")?;
        let (mut sink, mut stream) = socket.split();
        let hello = FromAgent::Hello(hello(n, args.slots, &clock)?);
        sink.send(text(&hello)?).await?;
        // A server that knows another journal of this agent first asks whether somebody is there.
        let first = loop {
            let message = stream.next().await.context("the server hung up")??;
            if message.is_text() {
                break message;
            }
        };
        let ToAgent::Welcome(welcome) = serde_json::from_str(first.to_text()?)? else {
            bail!("{first} instead of a welcome")
        };
        let heartbeat = welcome.heartbeat;
        sink.send(text(&FromAgent::Credit { free: args.slots })?).await?;
        Ok(Self { slots: args.slots, heartbeat, sink, stream, counted, clock, sent: None })
    }

    async fn run(mut self) {
        if let Err(error) = self.converse().await {
            eprintln!("an agent: {error:#}");
        }
    }

    async fn converse(&mut self) -> anyhow::Result<()> {
        let mut heartbeat = interval(self.heartbeat);
        loop {
            let mut heard = Vec::new();
            tokio::select! {
                message = self.stream.next() => heard.push(message.context("the server hung up")??),
                _ = heartbeat.tick() => self.sink.send(text(&FromAgent::Ping)?).await?,
            }
            // What has arrived besides it is answered with it.
            while heard.len() < BATCH
                && let Some(Some(message)) = futures_util::FutureExt::now_or_never(self.stream.next())
            {
                heard.push(message?);
            }
            self.answer(&heard).await?;
        }
    }

    async fn answer(&mut self, heard: &[Message]) -> anyhow::Result<()> {
        let mut assigned = Vec::new();
        let (mut acknowledged, mut fenced) = (0, 0);
        for message in heard {
            if let Message::Binary(bytes) = message
                && let Ok(Frame::Body { offset: 0, data, .. }) = Frame::decode(bytes)
            {
                self.sent = payload::sent(&data);
            }
            let Message::Text(text) = message else { continue };
            match serde_json::from_str(text)? {
                ToAgent::Assign(assignment) => {
                    self.counted.assigned(self.sent.take());
                    assigned.push(assignment.lease);
                }
                ToAgent::ResultAck { verdict, .. } => match verdict {
                    ResultVerdict::Recorded => acknowledged += 1,
                    ResultVerdict::Fenced => fenced += 1,
                },
                ToAgent::Refuse { reason } => bail!("refused: {reason}"),
                ToAgent::Welcome(_)
                | ToAgent::Joined
                | ToAgent::Servers { .. }
                | ToAgent::Cancel { .. }
                | ToAgent::OutputAck { .. }
                | ToAgent::FileAck { .. }
                | ToAgent::FileOutcomes { .. }
                | ToAgent::FileRooms { .. }
                | ToAgent::Watches { .. }
                | ToAgent::Pong
                | ToAgent::Drain
                | ToAgent::Unknown => {}
            }
        }
        if acknowledged + fenced > 0 {
            self.counted.acknowledged(acknowledged, fenced);
        }
        if assigned.is_empty() { Ok(()) } else { self.report(&assigned).await }
    }

    /// Everything that an agent says of an attempt, for all that came together; one flush.
    async fn report(&mut self, assigned: &[Lease]) -> anyhow::Result<()> {
        let at = self.clock.now();
        for lease in assigned {
            self.sink.feed(text(&FromAgent::Accepted { lease: *lease })?).await?;
        }
        for lease in assigned {
            self.sink.feed(text(&FromAgent::Started { lease: *lease, at })?).await?;
        }
        for lease in assigned {
            let outcome = Outcome::exit(0);
            let result = RunResult {
                lease: *lease,
                outcome,
                started_at: Some(at),
                finished_at: at,
                output_dropped: 0,
            };
            self.sink.feed(text(&FromAgent::Result(result))?).await?;
        }
        self.sink.feed(text(&FromAgent::Credit { free: self.slots })?).await?;
        Ok(self.sink.flush().await?)
    }
}

fn hello(n: u32, slots: u32, clock: &Clock) -> anyhow::Result<Hello> {
    Ok(Hello {
        protocol: protocol::VERSION,
        agent_id: AgentId::new(format!("bench-{n}"))?,
        journal_id: JournalId::at(clock.now()),
        journal_epoch: 1,
        hostname: format!("bench-{n}.example"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: Labels::new(),
        slots,
        held: Vec::new(),
    })
}

fn text(message: &FromAgent) -> anyhow::Result<Message> {
    Ok(Message::Text(serde_json::to_string(message)?.into()))
}
