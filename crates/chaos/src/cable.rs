//! The cable between an agent and the servers: a TCP proxy that can hold back one or both directions, or cut.
//!
//! Agents and their listeners are on loopback until agents join with keys, so there is no network between them that a
//! packet filter in a namespace could break. A proxy can do what matters: while a direction is held, bytes wait in
//! the sockets, as they wait for TCP's retransmission during a real partition, and arrive after it; new connections
//! get no answer. Nothing is ever dropped from the middle of a stream, because TCP does not do that either.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    Open,
    /// Nothing passes in either direction, and nobody is told.
    Held,
    /// What the agent says does not arrive.
    HeldUp,
    /// What the server says does not arrive.
    HeldDown,
    /// Connections are reset, and new ones too.
    Cut,
}

#[derive(Debug)]
pub(crate) struct Cable {
    /// What the agent dials; the same for the whole run.
    pub(crate) address: SocketAddr,
    passage: watch::Sender<Passage>,
    _ends: JoinSet<()>,
}

/// Where each server listens for agents; none while it is down.
pub(crate) type Servers = watch::Receiver<Vec<Option<SocketAddr>>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Cable {
    /// `first` is the server that is tried first; connections take turns from there.
    pub(crate) async fn new(servers: Servers, first: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let address = listener.local_addr()?;
        let (passage, seen) = watch::channel(Passage::Open);
        let mut ends = JoinSet::new();
        ends.spawn(accept(listener, servers, seen, first));
        Ok(Self { address, passage, _ends: ends })
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

async fn accept(listener: TcpListener, servers: Servers, passage: watch::Receiver<Passage>, mut turn: usize) {
    // Dropped with the cable: every connection ends.
    let mut connections = JoinSet::new();
    while let Ok((agent, _)) = listener.accept().await {
        let (servers, passage) = (servers.clone(), passage.clone());
        connections.spawn(async move {
            connect(agent, &servers, passage, turn).await;
        });
        turn = turn.wrapping_add(1);
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(agent: TcpStream, servers: &Servers, mut passage: watch::Receiver<Passage>, turn: usize) {
    let alive: Vec<SocketAddr> = servers.borrow().iter().flatten().copied().collect();
    if *passage.borrow_and_update() == Passage::Cut || alive.is_empty() {
        return reset(&agent);
    }
    // A connection that is made during a partition waits for its end, as a first packet that is sent again.
    if passage.wait_for(|passage| matches!(passage, Passage::Open | Passage::Cut)).await.is_err() {
        return;
    }
    match TcpStream::connect(alive[turn % alive.len()]).await {
        Ok(server) => carry(agent, server, passage).await,
        Err(_) => reset(&agent),
    }
}

async fn carry(mut agent: TcpStream, mut server: TcpStream, mut passage: watch::Receiver<Passage>) {
    for stream in [&agent, &server] {
        // Without it the proxy would add delays of its own.
        let _ = stream.set_nodelay(true);
    }
    let (up, down) = (passage.clone(), passage.clone());
    let cut = {
        let (from_agent, to_agent) = agent.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = copy(from_agent, to_server, up, Direction::Up) => false,
            () = copy(from_server, to_agent, down, Direction::Down) => false,
            cut = passage.wait_for(|passage| *passage == Passage::Cut) => cut.is_ok(),
        }
    };
    if cut {
        reset(&agent);
        reset(&server);
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut passage: watch::Receiver<Passage>,
    direction: Direction,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if passage.wait_for(|passage| passes(*passage, direction)).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            // Looked at again before the next byte.
            _ = passage.changed() => continue,
        };
        let Ok(count @ 1..) = read else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

const fn passes(passage: Passage, direction: Direction) -> bool {
    match passage {
        Passage::Open => true,
        Passage::Held | Passage::Cut => false,
        Passage::HeldUp => matches!(direction, Direction::Down),
        Passage::HeldDown => matches!(direction, Direction::Up),
    }
}

/// The next close is a reset.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO));
}
