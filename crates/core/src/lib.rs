//! The words and rules of hetuflow: no I/O, no async, no clock. Server and agent share this crate
//! and meet only in its [`protocol`].
//!
//! - words: [`event`], [`trigger`], [`job`], [`schedule`], [`task`], [`agent`], [`labels`], [`id`],
//!   [`fingerprint`]
//! - rules: [`matching`], [`condition`], [`template`], [`retry`], [`status`]
//! - how users write things: [`config`], [`duration`], [`size`], [`path_text`]
//! - between server and agent: [`protocol`]

pub mod agent;
pub mod clock;
pub mod condition;
pub mod config;
pub mod duration;
pub mod event;
pub mod fingerprint;
pub mod id;
pub mod job;
pub mod labels;
pub mod matching;
pub mod network;
pub mod outputs;
pub mod path_text;
pub mod protocol;
pub mod retry;
pub mod schedule;
pub mod size;
pub mod status;
pub mod suggest;
pub mod task;
pub mod template;
pub mod trigger;
pub mod waiting;

pub use clock::Clock;
