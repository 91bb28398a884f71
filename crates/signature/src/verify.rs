//! Judges one request.

use jiff::Timestamp;

use crate::{Scheme, Secret};

/// What was received, untouched.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, as received.
    pub url: &'a str,
    /// In the order received; names in any case.
    pub headers: &'a [(String, Vec<u8>)],
    pub body: &'a [u8],
}

/// The proof that a request is authentic, with what its scheme reads from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Which of the live secrets matched, by its place in the list.
    pub secret: usize,
    /// The sender's id of this delivery, by which a second one is recognised.
    pub delivery_id: Option<String>,
    pub event_type: Option<String>,
}

/// Why a request is not authentic. For the owner of the hook; the sender only learns 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no secret is configured")]
    NoSecret,
    #[error("header {0} is missing")]
    MissingHeader(String),
    #[error("header {0} came more than once")]
    RepeatedHeader(String),
    #[error("header {0} is malformed: {1}")]
    MalformedHeader(String, String),
    #[error("timestamp is {0} s away, more than the {1} s allowed")]
    Timestamp(i64, i64),
    #[error("signature does not match")]
    Mismatch,
}

impl Scheme {
    /// `now` is `None` where the age of timestamps shall not be judged (vectors, replays).
    pub fn verify(
        &self,
        _request: &Request<'_>,
        _secrets: &[Secret],
        _now: Option<Timestamp>,
    ) -> Result<Verified, Rejection> {
        todo!()
    }
}
