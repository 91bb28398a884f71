//! The link to a server: one WebSocket that the agent opens and opens again, also to another server. It holds no state
//! that matters: what must not be lost is in the journal, the spools and the table of attempts,
//! and each connection starts from there. A cut link never ends a run.

mod bodies;
mod dial;
mod outbox;
mod session;
mod writer;

use std::{fmt, time::Duration};

use hetuflow_core::{id::AgentId, labels::Labels, protocol};
use hetuflow_watch::Watcher;
use tokio_util::sync::CancellationToken;

use crate::{
    journal::JournalError,
    keys::{Keys, KeysError},
    runner::Runner,
};

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Reasons that are remembered as told, at most.
const MAX_TOLD: usize = 16;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) agent_id: AgentId,
    /// Of one database, in the order in which they stand in for each other; never empty.
    pub(crate) servers: Vec<String>,
    /// Where one of them is dialled with TLS.
    pub(crate) keys: Option<Keys>,
    pub(crate) labels: Labels,
    pub(crate) slots: u32,
    pub(crate) runner: Runner,
    pub(crate) watcher: Watcher,
}

/// Why a connection ended, other than on purpose.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("cannot connect")]
    Connect(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("the connection broke")]
    Broken(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("no answer to {0} in time")]
    Late(&'static str),
    #[error("nothing heard from the server for {0:?}")]
    Silent(Duration),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server refuses this agent: {0}")]
    Refused(String),
    #[error("the server's first answer is not a welcome")]
    NoWelcome,
    #[error("{0:?} is not the address of a server")]
    Address(String),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a message cannot be written")]
    Encode(#[from] serde_json::Error),
}

/// Why a connection ended on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The agent stops.
    Stopped,
    /// The server stops.
    Drained,
}

impl Link {
    /// Holds a connection until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        let mut told = Vec::new();
        let mut order = self.servers.iter().cycle();
        let mut server = order.next();
        while let Some(url) = server {
            let mut welcomed = false;
            match session::hold(&self, &address(url), &stop, &mut welcomed).await {
                Ok(End::Stopped) => return,
                Ok(End::Drained) => {
                    tracing::info!(server = %url, "the server stops; looking for another, or for it again");
                    server = order.next();
                }
                Err(cut) => {
                    if welcomed {
                        told.clear();
                    }
                    report(url, &cut, failures, &mut told);
                    // A cable that was cut is no reason to move.
                    server = if welcomed { server } else { order.next() };
                }
            }
            failures = if welcomed { 0 } else { failures + 1 };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause(self.rounds(failures), rand::random())) => {}
            }
        }
    }

    /// How often all of them have failed.
    fn rounds(&self, failures: u32) -> u32 {
        failures / u32::try_from(self.servers.len()).unwrap_or(u32::MAX)
    }
}

fn address(server: &str) -> String {
    format!("{}{}", server.trim_end_matches('/'), protocol::PATH)
}

/// Each reason once per outage, and then now and then: a server that could not be reached at first may refuse later.
fn report(server: &str, cut: &Cut, failures: u32, told: &mut Vec<String>) {
    let reason = format!("{server} {}", Chain(cut));
    let new = told.len() < MAX_TOLD && !told.contains(&reason);
    if new || failures.is_multiple_of(20) {
        let error = cut as &dyn std::error::Error;
        tracing::warn!(server, error, "no link to the server; trying on");
    } else {
        tracing::debug!(server, cut = %Chain(cut), "no link to the server");
    }
    if new {
        told.push(reason);
    }
}

/// Between [`SHORTEST_WAIT`] and a bound that doubles with each failure, at random: agents that lost their
/// server at the same moment do not come back at the same moment.
fn pause(failures: u32, random: f64) -> Duration {
    let bound = SHORTEST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
    SHORTEST_WAIT + bound.saturating_sub(SHORTEST_WAIT).mul_f64(random)
}

struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        self.0.source().map_or(Ok(()), |source| write!(f, ": {}", Chain(source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds() {
        let check = |failures, random, millis| {
            assert_eq!(pause(failures, random).as_millis(), millis, "{failures} failures");
        };
        check(0, 1.0, 100);
        check(1, 0.0, 100);
        check(1, 1.0, 200);
        check(4, 0.5, 850);
        check(6, 1.0, 5000);
        check(u32::MAX, 1.0, 5000);
    }
}
