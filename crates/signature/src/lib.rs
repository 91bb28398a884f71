//! Verifies webhooks: an engine that is driven by data files, one per provider
//! (`schemes/*.toml`), each with the provider's test vectors. No provider has code of its own.
//!
//! A [`Scheme`] is parsed and checked once; [`Scheme::verify`] judges one request over its raw bytes
//! and is the only way to a [`Verified`]. The ingress calls it before anything else looks at a body.

mod algorithm;
mod encoding;
mod message;
mod place;
mod scheme;
mod secret;
mod sign;
#[cfg(test)]
mod tests;
pub mod vector;
mod verify;

pub use scheme::{Scheme, SchemeError};
pub use secret::Secret;
pub use verify::{Rejection, Request, Verified};
