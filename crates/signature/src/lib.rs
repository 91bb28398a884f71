//! Verifies webhooks: an engine that is driven by data files, one per provider
//! (`schemes/*.toml`), each with the provider's test vectors. No provider has code of its own.
//!
//! A [`Scheme`] is parsed and checked once; [`Scheme::verify`] judges one request over its raw bytes
//! and is the only way to a [`Verified`].

mod scheme;
mod secret;
mod sign;
pub mod vector;
mod verify;

pub use scheme::{Scheme, SchemeError};
pub use secret::Secret;
pub use verify::{Rejection, Request, Verified};
