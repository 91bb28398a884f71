//! Ourselves: the real server, real sockets, agents that run nothing.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

use super::{DATABASE, DRAIN, LOAD, LOG, RATE, Ring, SERVER, START_P50, START_P99, WORKERS};
use crate::{
    child::Child,
    processor::{self, Whose},
    report::Figure,
    role::{agents::Ready, agents::Tally, feed::Listening, load::Sent},
    server::Server,
};

const NAME: &str = "bench_hetuflow";
const START_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    Postgres,
    Sqlite,
}

/// How events enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Webhook,
    Fed,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Contender {
    database: Database,
    door: Door,
}

pub(super) const ALL: [Contender; 4] = [
    Contender { database: Database::Postgres, door: Door::Webhook },
    Contender { database: Database::Postgres, door: Door::Fed },
    Contender { database: Database::Sqlite, door: Door::Webhook },
    Contender { database: Database::Sqlite, door: Door::Fed },
];

impl Contender {
    pub(super) const fn name(self) -> &'static str {
        match (self.database, self.door) {
            (Database::Postgres, Door::Webhook) => "hetuflow, PostgreSQL, webhook",
            (Database::Postgres, Door::Fed) => "hetuflow, PostgreSQL, fed",
            (Database::Sqlite, Door::Webhook) => "hetuflow, SQLite, webhook",
            (Database::Sqlite, Door::Fed) => "hetuflow, SQLite, fed",
        }
    }

    pub(super) async fn fight(self, ring: &mut Ring) -> anyhow::Result<Vec<(Figure, f64)>> {
        let folder = ring.folder.join("hetuflow");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let database = match self.database {
            Database::Postgres => ring.cluster.fresh(NAME).await?,
            Database::Sqlite => format!("sqlite:{}", folder.join("hetuflow.db").display()),
        };
        let mut bout =
            Bout { ring, on: self.database, source: Source::open(self.door, &database, folder).await? };
        let mut figures = bout.latency().await?;
        figures.extend(bout.throughput().await?);
        if self.door == Door::Fed {
            figures.push(bout.drain().await?);
        }
        bout.source.stop().await;
        if self.database == Database::Postgres {
            ring.cluster.remove(NAME).await?;
        }
        Ok(figures)
    }
}

/// A running server, and what makes its events.
enum Source {
    Webhook(Box<Server>),
    Fed { server: Box<Child>, agents: String },
}

impl Source {
    async fn open(door: Door, database: &str, folder: PathBuf) -> anyhow::Result<Self> {
        match door {
            Door::Webhook => Ok(Self::Webhook(Box::new(Server::start(database, &folder).await?))),
            Door::Fed => {
                let args = ["feed", "--database", database].map(str::to_owned);
                let mut server = Child::role(&args)?;
                let listening: Listening = server.said(START_WITHIN).await?;
                Ok(Self::Fed { server: Box::new(server), agents: listening.agents })
            }
        }
    }

    fn agents(&self) -> String {
        match self {
            Self::Webhook(server) => server.agents.to_string(),
            Self::Fed { agents, .. } => agents.clone(),
        }
    }

    fn pid(&self) -> anyhow::Result<u32> {
        match self {
            Self::Webhook(server) => server.pid(),
            Self::Fed { server, .. } => server.pid(),
        }
    }

    async fn stop(self) {
        match self {
            Self::Webhook(server) => server.stop().await,
            Self::Fed { server, .. } => server.stop().await,
        }
    }
}

/// What one stretch used.
struct Used {
    database: f64,
    server: f64,
    workers: f64,
    load: f64,
    log: f64,
}

struct Bout<'a> {
    ring: &'a mut Ring,
    on: Database,
    source: Source,
}

impl Bout<'_> {
    /// From the sending of an event to its assignment's arrival at an agent, at a low rate.
    async fn latency(&mut self) -> anyhow::Result<Vec<(Figure, f64)>> {
        let (count, rate) = (self.ring.args.paced, self.ring.args.rate);
        let mut agents = self.agents(count).await?;
        let (load, sent) = self.send(count, Some(rate)).await?;
        ensure!(sent.accepted == count, "{} of {count} paced events were refused", sent.refused);
        let tally: Tally = agents.said(self.within()).await?;
        dismiss([Some(agents), load]).await;
        let start = tally.start.context("no assignment said when its event was sent")?;
        Ok(vec![(START_P50, start.p50), (START_P99, start.p99)])
    }

    /// As many as the server takes, agents being there.
    async fn throughput(&mut self) -> anyhow::Result<Vec<(Figure, f64)>> {
        let count = self.ring.args.tasks;
        let mut agents = self.agents(count).await?;
        let before = self.used(&agents, None).await?;
        let (load, sent) = self.send(count, None).await?;
        let tally: Tally = agents.said(self.within()).await?;
        let after = self.used(&agents, load.as_ref()).await?;
        dismiss([Some(agents), load]).await;
        complain(&sent, &tally, count);
        let lives = tally.acknowledged as f64;
        let seconds = (tally.last_acknowledged.saturating_sub(sent.began)) as f64 / 1e9;
        let each = |before: f64, after: f64| (after - before) / lives;
        let mut figures = vec![(RATE, lives / seconds)];
        if self.on == Database::Postgres {
            figures.push((DATABASE, each(before.database, after.database)));
        }
        figures.push((SERVER, each(before.server, after.server)));
        figures.push((WORKERS, each(before.workers, after.workers)));
        if after.load > 0.0 {
            figures.push((LOAD, each(before.load, after.load)));
        }
        if self.on == Database::Postgres {
            figures.push((LOG, each(before.log, after.log)));
        }
        Ok(figures)
    }

    /// The queue is full when the agents come.
    async fn drain(&mut self) -> anyhow::Result<(Figure, f64)> {
        let count = self.ring.args.tasks;
        let (load, _) = self.send(count, None).await?;
        let mut agents = self.agents(count).await?;
        let tally: Tally = agents.said(self.within()).await?;
        dismiss([Some(agents), load]).await;
        let seconds = tally.last_acknowledged.saturating_sub(tally.first_assigned) as f64 / 1e9;
        Ok((DRAIN, tally.acknowledged as f64 / seconds))
    }

    async fn agents(&self, expect: u64) -> anyhow::Result<Child> {
        let args = &self.ring.args;
        let url = format!("ws://{}", self.source.agents());
        let mut agents = Child::role(&[
            "agents".to_owned(),
            format!("--url={url}"),
            format!("--count={}", args.agents),
            format!("--slots={}", args.slots),
            format!("--expect={expect}"),
            format!("--within={}", args.within),
        ])?;
        let _: Ready = agents.said(START_WITHIN).await?;
        Ok(agents)
    }

    /// The process that sent, where it is one of its own.
    async fn send(&mut self, count: u64, rate: Option<u32>) -> anyhow::Result<(Option<Child>, Sent)> {
        let within = self.within();
        match &mut self.source {
            Source::Webhook(server) => {
                let mut args = vec![
                    "load".to_owned(),
                    format!("--address={}", server.hooks),
                    format!("--count={count}"),
                    format!("--connections={}", self.ring.args.connections),
                ];
                args.extend(rate.map(|rate| format!("--rate={rate}")));
                let mut load = Child::role(&args)?;
                let sent = load.said(within).await?;
                Ok((Some(load), sent))
            }
            Source::Fed { server, .. } => {
                let order = match rate {
                    Some(rate) => format!("pace {count} {rate}"),
                    None => format!("feed {count}"),
                };
                server.tell(&order).await?;
                Ok((None, server.said(within).await?))
            }
        }
    }

    async fn used(&mut self, agents: &Child, load: Option<&Child>) -> anyhow::Result<Used> {
        let of = |pid: u32| processor::used(Whose::Process(pid));
        let load = load.map(Child::pid).transpose()?;
        Ok(Used {
            database: self.ring.cluster.used()?,
            server: of(self.source.pid()?)?,
            workers: of(agents.pid()?)?,
            load: load.map_or(Ok(0.0), of)?,
            log: self.ring.cluster.log_written().await?,
        })
    }

    /// Beyond what the agents wait for themselves.
    fn within(&self) -> Duration {
        Duration::from_secs(self.ring.args.within + 30)
    }
}

async fn dismiss(children: [Option<Child>; 2]) {
    for child in children.into_iter().flatten() {
        child.stop().await;
    }
}

fn complain(sent: &Sent, tally: &Tally, count: u64) {
    if sent.refused > 0 {
        eprintln!("  {} of {count} events were refused", sent.refused);
    }
    if tally.acknowledged < count {
        eprintln!("  cut: {} of {count} lives were complete", tally.acknowledged);
    }
    if tally.fenced > 0 {
        eprintln!("  {} results were fenced", tally.fenced);
    }
}
