//! What server and agent say to each other over one WebSocket that the agent opens
//! (`GET /agent/v1`, subprotocol `hetuflow.v1`).
//!
//! Control messages are JSON text frames; output of processes and bodies of events are binary
//! frames ([`frame`]). Nothing is acknowledged by position in the stream: every item is
//! acknowledged by its own id, so a new connection needs no replay. A message of an unknown type is
//! answered with nothing and skipped, unknown fields are ignored: either side may be the newer.

pub mod frame;
mod message;

pub use message::{
    Assignment, EventBrief, FileBatchAck, FileEvent, FileOutcome, FileVerdict, FromAgent, Held, HeldPhase,
    Hello, Join, Kept, ResultVerdict, RunResult, ToAgent, Watch, WatchHealth, WatchState, Welcome,
};

/// The version in [`Hello::protocol`]. A server refuses an agent whose version it does not speak.
pub const VERSION: u16 = 1;

/// The path on the agent listener.
pub const PATH: &str = "/agent/v1";

pub const SUBPROTOCOL: &str = "hetuflow.v1";

/// The largest WebSocket message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// The largest payload of one binary frame, in bytes: what [`frame`] users cut chunks to.
pub const MAX_CHUNK: usize = 64 * 1024;
