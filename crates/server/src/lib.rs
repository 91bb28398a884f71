//! The server: takes events in, decides, hands tasks to agents, records how they ended.
//!
//! One webhook's way through this crate (ARCHITECTURE.md has the whole walk): [`listen`] accepts the
//! connection, [`hooks`] applies the controls and verifies, [`triggers`] says who matches,
//! [`ingest`] commits, [`dispatch`] claims and pushes through [`gateway`], [`results`] settles.
//! [`scheduler`] and file events from agents enter at `ingest` too. [`api`] serves people.

pub mod config;
mod dispatch;
mod gateway;
mod hub;
mod ingest;
mod metrics;
mod scheduler;
mod secrets;
mod state;
pub mod triggers;

pub use config::Config;
pub use state::AppState;
