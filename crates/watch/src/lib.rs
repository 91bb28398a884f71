//! Durable directory watching: finds files, waits until they are complete, remembers what it has
//! reported. Usable alone; the agent is its one user here.
//!
//! It is driven by levels, not by edges: an event of the system is a *hint* to look, the fact is what
//! `statx` says compared with a durable snapshot. A hint that is lost, doubled or late costs time only.
//! Events have deterministic ids and stay in an outbox until they are acknowledged, so that a crash
//! at any point means at most that an event is told again under the id that it had.
//!
//! - what is watched: `rule` (globs), `noise` (names never reported), `root` (where walks start)
//! - finding: `hint` (the system's events), `ground` (never outside of a root), `links`, `listing`, `probe` (facts), `live` (looks,
//!   walks, judges)
//! - deciding: `settle` and `gate` (pure), `tree` (directories as one piece), `lease` (who writes), `proof` (markers, checksums), `digest` (large files, apart
//!   from the turns), `version` (identity and event ids)
//! - claimed before they are told: `claim`
//! - afterwards: `fate` (moved, deleted), `beneath` (never outside of a directory)
//! - explaining: `explain`
//! - remembering: `snapshot`, `state` (SQLite), `since` (what outlives a lost state file), `turn` (what one commit holds)
//! - running: `engine` (one turn), `run` (the loop of a patrol), `worker` (its thread), `patrol` (who looks where), `mounts`
//!   (what may not answer), `watcher` (the handle)

mod beneath;
mod claim;
mod digest;
mod engine;
mod error;
mod explain;
mod fate;
mod gate;
mod ground;
mod hint;
mod lease;
mod links;
mod listing;
mod live;
mod mounts;
mod noise;
mod patrol;
mod probe;
mod proof;
mod root;
mod rule;
mod run;
mod settle;
mod since;
mod slots;
mod snapshot;
mod state;
mod tree;
mod turn;
mod version;
mod watcher;
mod worker;

pub use error::WatchError;
pub use explain::{Explained, Fate, explain};
pub use probe::is_remote;
pub use watcher::{Options, Watcher, start};
