//! Signs a delivery as its provider would, for `hetuflow event send`.

use jiff::Timestamp;

use crate::{
    Request, Scheme, SchemeError, Secret,
    algorithm::Algorithm,
    place::{At, Place, Source},
    scheme::SignatureRule,
    template::{Filling, Value},
    timestamp::TimestampRule,
};

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
        let fail = |why: &str| SchemeError(why.to_owned());
        let keys = self
            .secret_keys(0, secret)
            .map_err(|wrong| SchemeError(format!("the secret cannot be used: {wrong}")))?;
        let ruled = keys.first().ok_or_else(|| fail("the secret cannot be used"))?;
        let rule = self.signing_rule(ruled.family)?;
        if !rule.message.admits(&Value::Id, delivery_id) {
            let wrong = format!("delivery id {delivery_id:?} holds the separator of the signed message");
            return Err(SchemeError(wrong));
        }
        let timestamp = self.timestamp.as_ref().map(|rule| rule.unit.write(now)).unwrap_or_default();
        let mut headers = Headers::default();
        headers.set(self.timestamp.as_ref().map(TimestampRule::at), &timestamp);
        headers.set(self.delivery.id.first(), delivery_id);
        headers.set(self.delivery.event_type.first(), event_type);
        let sent: Vec<(String, Vec<u8>)> =
            headers.0.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        let request = Request { method: "POST", url: "", headers: &sent, body };
        let url = self.address.public.as_deref().unwrap_or_default();
        let filling =
            Filling { source: Source::of(request), url, timestamp: &timestamp, id: delivery_id, mac: "" };
        let message = rule.message.fill(&filling).map_err(|why| SchemeError(why.to_string()))?;
        let signature = ruled.key.sign(&message).ok_or_else(|| {
            fail("the secret is a public key, which can only verify; signing takes the private one")
        })?;
        let place = rule.places.first();
        let written = format!("{}{}", rule.prefix, rule.encoding.encode(&signature));
        headers.add(place, rule.separator.as_deref(), &written);
        Ok(headers.0)
    }

    /// The first rule for JSON that this key fits and that can be signed from here.
    fn signing_rule(&self, family: usize) -> Result<&SignatureRule, SchemeError> {
        let can = |rule: &&SignatureRule| {
            rule.key.family == family
                && rule.when.is_empty()
                && rule.algorithm != Algorithm::Jwt
                && rule.places.first().is_some_and(|place| place.header_name().is_some())
        };
        let fail = |why: &str| SchemeError(format!("deliveries of scheme {:?} {why}", self.name()));
        let rule = self.signatures.iter().find(can);
        let rule = rule.ok_or_else(|| {
            fail("cannot be signed from here: a token, or a signature that is not in a header")
        })?;
        if rule.message.holds(&Value::Url) && self.address.public.is_none() {
            return Err(fail(
                "are signed with the hook's address: the trigger must name it with the option url",
            ));
        }
        Ok(rule)
    }
}

#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl Headers {
    fn set(&mut self, place: Option<&Place>, value: &str) {
        let Some(Place { at: At::Header(name), cut }) = place else { return };
        let prefix = cut.as_ref().map_or("", |cut| cut.prefix.as_str());
        self.0.push((name.clone(), format!("{prefix}{value}")));
    }

    /// Beside what stands in the same header already.
    fn add(&mut self, place: Option<&Place>, separator: Option<&str>, value: &str) {
        let Some(name) = place.and_then(Place::header_name) else { return };
        match self.0.iter_mut().find(|(found, _)| found == name) {
            Some((_, there)) => *there = format!("{there}{}{value}", separator.unwrap_or(",")),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}
