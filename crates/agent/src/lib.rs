//! The agent: holds one WebSocket to a server, watches directories, runs processes.
//!
//! [`run`] puts it together. An assignment comes in over the [`link`], is made durable in the
//! [`journal`], and becomes an attempt: an actor ([`runner`]) that starts and ends processes
//! ([`process`]) and spools their output ([`spool`]). The table of [`attempts`] is what the two
//! sides share: the link sends what the table shows and the server does not know yet, so a cut
//! link loses nothing and needs no replay. The agent never sees the server's store.

mod attempts;
mod config;
mod files;
mod identity;
mod journal;
mod keys;
mod link;
mod output;
mod process;
mod run;
mod runner;
mod spool;
mod workplace;

pub use config::{Config, ConfigError, Executor, Files, LogFormat, Logging, SAMPLE, TokenSource};
pub use identity::{IdentityError, agent_id};
pub use journal::JournalError;
pub use keys::{KeysError, LookError, look};
pub use run::{AgentError, Ended, run};
