//! Signs a delivery as its provider would, for `hetuflow event send`.

use jiff::Timestamp;

use crate::{Scheme, SchemeError, Secret, message::Value, place::Place, scheme::Unit};

impl Scheme {
    /// The headers of a delivery of `body`: signature, timestamp, delivery id, event type, as far as the scheme
    /// has them in headers.
    pub fn sign(
        &self,
        secret: &Secret,
        body: &[u8],
        delivery_id: &str,
        event_type: &str,
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, SchemeError> {
        if !self.message.admits(Value::Id, delivery_id) {
            return Err(SchemeError(format!(
                "delivery id {delivery_id:?} holds the separator of the signed message"
            )));
        }
        let ruled =
            self.key(secret).map_err(|wrong| SchemeError(format!("the secret cannot be used: {wrong}")))?;
        let timestamp = self.timestamp_text(now);
        let message = self.message.fill(delivery_id, &timestamp, body);
        let signature = ruled.key.sign(&message).ok_or_else(|| {
            SchemeError(
                "the secret is a public key, which can only verify; signing takes the private one".to_owned(),
            )
        })?;
        let signature = format!("{}{}", ruled.rule.prefix, ruled.rule.encoding.encode(&signature));
        let mut headers = vec![(ruled.rule.header.clone(), signature)];
        headers.extend(self.timestamp.iter().map(|rule| (rule.header.clone(), timestamp.clone())));
        headers.extend(in_header(self.delivery.id.as_ref(), delivery_id));
        headers.extend(in_header(self.delivery.event_type.as_ref(), event_type));
        Ok(headers)
    }

    fn timestamp_text(&self, now: Timestamp) -> String {
        match self.timestamp.as_ref().map(|rule| rule.unit) {
            Some(Unit::Seconds) => now.as_second().to_string(),
            Some(Unit::Milliseconds) => now.as_millisecond().to_string(),
            None => String::new(),
        }
    }
}

fn in_header(place: Option<&Place>, value: &str) -> Option<(String, String)> {
    match place {
        Some(Place::Header(name)) => Some((name.clone(), value.to_owned())),
        Some(Place::Body(_)) | None => None,
    }
}
