//! Signs a delivery as its provider would, for `hetuflow event send`.

use jiff::Timestamp;

use crate::{Scheme, SchemeError, Secret};

impl Scheme {
    /// The headers of a delivery of `body`: signature, timestamp, delivery id, event type, as far as the scheme
    /// has them.
    pub fn sign(
        &self,
        _secret: &Secret,
        _body: &[u8],
        _delivery_id: &str,
        _event_type: &str,
        _now: Timestamp,
    ) -> Result<Vec<(String, String)>, SchemeError> {
        todo!()
    }
}
