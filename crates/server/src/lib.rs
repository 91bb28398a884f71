//! The server: takes events in, decides, hands tasks to agents, records how they ended.
//!
//! One webhook's way through this crate (ARCHITECTURE.md has the whole walk): [`listen`] accepts the
//! connection, [`hooks`] applies the controls and verifies, [`triggers`] says who matches,
//! [`ingest`] commits, [`dispatch`] claims and pushes through [`gateway`], [`results`] settles.
//! [`scheduler`] and file events from agents enter at `ingest` too. [`api`] serves people.

mod api;
pub mod config;
mod dispatch;
mod ends;
mod file_events;
mod gateway;
mod health;
mod hooks;
mod housekeeping;
mod hub;
mod ingest;
mod intake;
mod keys;
mod leader;
mod listen;
mod metrics;
mod replay;
mod results;
mod run;
mod runtime;
mod scheduler;
mod secrets;
mod state;
mod systemd;
mod tls;
pub mod triggers;
#[cfg(test)]
mod world;

pub use config::Config;
pub use health::{Health, Status};
pub use listen::{Addresses, BindError, Entrance, Listeners};
pub use run::{Server, ServerError, start};
pub use runtime::runtime;
pub use secrets::{SecretSource, unresolved};
pub use state::AppState;
pub use systemd::{NotifyState, tell_systemd};
pub use tls::{TlsError, key_file};
