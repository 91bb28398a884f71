//! Verifies webhooks: an engine that is driven by data files, one per provider
//! (`schemes/*.toml`), each with the provider's test vectors. No provider has code of its own.
//!
//! A [`Scheme`] is parsed and checked once; [`Scheme::judge`] tells deliveries from handshakes and pings over the raw
//! bytes, and with [`Scheme::verify`] it is the only way to a [`Verified`]. The ingress calls it before anything else
//! looks at a body. Nothing here does I/O: where a key would have to be fetched, verification says so.

mod algorithm;
mod condition;
mod encoding;
mod fetch;
mod form;
mod handshake;
mod json;
mod jwt;
mod key;
mod place;
mod proof;
mod public_key;
mod scheme;
mod secret;
mod sign;
mod template;
#[cfg(test)]
mod tests;
mod timestamp;
pub mod vector;
mod verify;

pub use handshake::{Answer, Judged, Waiting};
pub use scheme::{Scheme, SchemeError};
pub use secret::Secret;
pub use verify::{Rejection, Request, Verified};
