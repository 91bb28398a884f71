//! A server on free ports with a real SQLite database, spoken to over real sockets.

mod api;
mod bulk;
mod checks;
mod guide;
mod handshakes;
mod hooks;
mod journal;
mod keys;
mod listeners;
mod logs;
mod senders;
mod tls;
mod triggers;
mod waiting;
mod world;
