//! Spoils every accepted vector of every scheme, bit by bit, in all that the scheme's own rule says is signed: each
//! flipped bit must make it fail. A new scheme file needs no new test.

use std::borrow::Cow;

use crate::{
    Rejection, Request, Scheme, Secret,
    condition::all_hold,
    encoding::Encoding,
    json::Pointer,
    place::{At, Cut, Place, Source},
    scheme::{BUILTIN, File, SignatureRule},
    template::Value,
    vector::Row,
};

/// Of longer texts one bit in each byte is flipped.
const EVERY_BIT: usize = 72;

/// An accepted vector, to be spoilt.
#[derive(Clone)]
struct Delivery {
    row: String,
    scheme: Scheme,
    method: Vec<u8>,
    url: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    secrets: Vec<Vec<u8>>,
}

impl Delivery {
    fn accepted() -> Vec<Self> {
        let all = BUILTIN.iter().flat_map(|(name, text)| {
            let rows = File::parse(name, text).expect("a scheme file").vectors;
            rows.into_iter().filter_map(|row| Self::new(name, text, &row))
        });
        all.filter(|delivery| delivery.verdict().is_ok()).collect()
    }

    fn new(scheme: &str, text: &str, row: &Row) -> Option<Self> {
        Some(Self {
            row: row.id.clone(),
            // A vector may show options that are refused.
            scheme: Scheme::with_options(scheme, text, &row.options).ok()?,
            method: row.method().as_bytes().to_vec(),
            url: row.url.clone().into_bytes(),
            headers: row.headers(),
            body: row.body.clone().into_bytes(),
            secrets: row.secrets().iter().map(|text| text.as_bytes().to_vec()).collect(),
        })
    }

    fn with<T>(&self, then: impl FnOnce(Request<'_>) -> T) -> Option<T> {
        let (method, url) = (str::from_utf8(&self.method).ok()?, str::from_utf8(&self.url).ok()?);
        Some(then(Request { method, url, headers: &self.headers, body: &self.body }))
    }

    /// Without a clock, so that the signature alone decides.
    fn verdict(&self) -> Result<usize, Rejection> {
        let secrets: Vec<Secret> = self.secrets.iter().map(|bytes| Secret::new(bytes.clone())).collect();
        let verified = self.with(|request| self.scheme.verify(&request, &secrets, None));
        // An address that is not text never reaches the engine.
        verified.unwrap_or(Err(Rejection::NoRule)).map(|verified| verified.secret)
    }

    fn must_fail(&self, what: &str) {
        if self.verdict().is_ok() {
            let body = self.body.escape_ascii();
            let headers: Vec<String> = self
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
                .collect();
            let secrets: Vec<String> =
                self.secrets.iter().map(|text| text.escape_ascii().to_string()).collect();
            panic!(
                "{} passes with {what} changed: {:?} {headers:?} {body} {secrets:?}",
                self.row,
                self.url.escape_ascii().to_string()
            );
        }
    }

    /// The rules by which it passes.
    fn rules(&self) -> Vec<&SignatureRule> {
        let proves = |rule: &&SignatureRule| {
            let mut alone = self.clone();
            alone.scheme.signatures = vec![(*rule).clone()];
            alone.verdict().is_ok()
        };
        self.scheme.signatures.iter().filter(proves).collect()
    }

    /// The values in what was signed.
    fn signed(&self) -> Vec<Value> {
        let rules = self.rules();
        let hashes = self.scheme.hashes.iter().filter(|hash| {
            self.with(|request| all_hold(&hash.when, &Source::of(request)) == Ok(true)).unwrap_or_default()
        });
        let mut values: Vec<Value> = rules.iter().flat_map(|rule| rule.message.values()).cloned().collect();
        for hash in hashes {
            values.extend(hash.of.values().into_iter().cloned());
            values.push(Value::At(hash.equals.clone()));
        }
        values
    }

    fn flip_all(&self, what: &str, part: impl Fn(&mut Self) -> &mut Vec<u8>, same: impl Fn(&Self) -> bool) {
        for bit in bits(part(&mut self.clone()).len()) {
            let mut spoilt = self.clone();
            part(&mut spoilt)[bit / 8] ^= 1 << (bit % 8);
            if !same(&spoilt) {
                spoilt.must_fail(what);
            }
        }
    }

    fn flip_value(&self, value: &Value) {
        let urls = |delivery: &Self| delivery.with(|request| delivery.scheme.urls(&request));
        let form = |delivery: &Self| {
            let mut pairs: Vec<_> = form_urlencoded::parse(&delivery.body).into_owned().collect();
            pairs.sort();
            pairs
        };
        match value {
            Value::Body | Value::Sha256 | Value::Crc32 => self.flip_all("body", |d| &mut d.body, |_| false),
            Value::FormSorted | Value::OnlyField(_) => {
                self.flip_all("form", |d| &mut d.body, |spoilt| form(spoilt) == form(self));
            }
            Value::Url => self.flip_all("url", |d| &mut d.url, |spoilt| urls(spoilt) == urls(self)),
            Value::Path | Value::Query => self.flip_all("url", |d| &mut d.url, |_| false),
            Value::Method => self.flip_all("method", |d| &mut d.method, |_| false),
            Value::Timestamp => {
                let rule = self.scheme.timestamp.as_ref().expect("a checked scheme");
                let there = rule.places.iter().find(|place| self.find(place).is_some());
                self.flip_place(there.expect("an accepted row"), |_, _| false);
            }
            Value::Id => {
                let there = self.scheme.delivery.id.iter().find(|place| self.find(place).is_some());
                self.flip_place(there.expect("an accepted row"), |_, _| false);
            }
            // A hash may be written in upper case.
            Value::At(place) => self.flip_place(place, <[u8]>::eq_ignore_ascii_case),
            Value::Mac | Value::Named(_) => unreachable!("not in a message"),
        }
    }

    fn find(&self, place: &Place) -> Option<Vec<u8>> {
        self.with(|request| {
            let source = Source { body: self.element(), ..Source::of(request) };
            place.find(&source).ok().flatten().map(Cow::into_owned)
        })?
    }

    fn element(&self) -> &[u8] {
        let Some(each) = &self.scheme.each else { return &self.body };
        each.items(&self.body).expect("a list")[0].get().as_bytes()
    }

    /// Every bit of the value at one place; `same` says of which changes no scheme takes notice.
    fn flip_place(&self, place: &Place, same: impl Fn(&[u8], &[u8]) -> bool) {
        let Some(original) = self.find(place) else { return };
        for bit in bits(original.len()) {
            let mut value = original.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            if same(&original, &value) {
                continue;
            }
            if let Some(spoilt) = self.put(place, &original, &value) {
                spoilt.must_fail(&place.to_string());
            }
        }
    }

    /// With another value at one place; `None` where that place cannot hold it.
    fn put(&self, place: &Place, old: &[u8], new: &[u8]) -> Option<Self> {
        let mut spoilt = self.clone();
        match &place.at {
            At::Header(name) => {
                let (_, value) =
                    spoilt.headers.iter_mut().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
                let at = value.windows(old.len()).position(|window| window == old)?;
                value.splice(at..at + old.len(), new.iter().copied());
            }
            At::Query(name) => {
                let url = str::from_utf8(&spoilt.url).ok()?;
                let (base, query) = url.split_once('?')?;
                let changed = String::from_utf8_lossy(new);
                let pairs = form_urlencoded::parse(query.as_bytes())
                    .map(|(key, value)| if &*key == name { (key, changed.clone()) } else { (key, value) });
                let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                spoilt.url = format!("{base}?{query}").into_bytes();
            }
            At::Body(pointer) => {
                let mut json: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
                let value = json.pointer_mut(&self.absolute(pointer))?;
                let text = str::from_utf8(new).ok()?;
                *value = if value.is_string() { text.into() } else { serde_json::from_str(text).ok()? };
                spoilt.body = serde_json::to_vec(&json).ok()?;
            }
            // Claims are flipped with their token.
            At::Form(_) | At::Claim(_) | At::All(_) => return None,
        }
        Some(spoilt)
    }

    fn absolute(&self, pointer: &Pointer) -> String {
        let each = self.scheme.each.as_ref().map(|each| format!("{}/0", each.as_str()));
        format!("{}{}", each.unwrap_or_default(), pointer.as_str())
    }
}

/// Which bits of a text of so many bytes are flipped.
fn bits(bytes: usize) -> Vec<usize> {
    if bytes <= EVERY_BIT {
        (0..bytes * 8).collect()
    } else {
        (0..bytes).map(|byte| byte * 8 + byte % 8).collect()
    }
}

#[test]
fn one_flipped_bit_of_what_is_signed_spoils_it() {
    for delivery in Delivery::accepted() {
        for value in delivery.signed() {
            delivery.flip_value(&value);
        }
    }
}

#[test]
fn one_flipped_bit_of_the_signature_spoils_it() {
    for delivery in Delivery::accepted() {
        for rule in delivery.rules() {
            for place in &rule.places {
                let cut = Cut { separator: rule.separator.clone(), prefix: rule.prefix.clone() };
                // Beside others a signature may be spoilt; one of the others passes then.
                let places = rule.places.iter().filter(|place| delivery.find(place).is_some()).count();
                let items = delivery.find(place).map_or(0, |value| cut.items(&value).len());
                if places == 1 && items == 1 && delivery.rules().len() == 1 {
                    let hex = rule.encoding == Encoding::Hex;
                    let exact = Place { cut: Some(cut), ..place.clone() };
                    delivery.flip_place(&exact, |a, b| hex && a.eq_ignore_ascii_case(b));
                }
            }
        }
    }
}

#[test]
fn one_flipped_bit_of_the_secret_that_matched_spoils_it() {
    for delivery in Delivery::accepted() {
        let matched = delivery.verdict().expect("an accepted row");
        let secret = delivery.secrets[matched].clone();
        let delivery = Delivery { secrets: vec![secret.clone()], ..delivery };
        // Of these only a part counts: the certified key, one key of a set.
        if secret.starts_with(b"-----BEGIN CERTIFICATE") || secret.starts_with(b"{\"keys\"") {
            continue;
        }
        let hex = delivery.scheme.signatures.iter().any(|rule| rule.key.encoding == Some(Encoding::Hex));
        delivery.flip_all(
            "secret",
            |d| &mut d.secrets[0],
            |spoilt| hex && spoilt.secrets[0].eq_ignore_ascii_case(&secret),
        );
    }
}

/// Of a pinned certificate only the key counts, and its time.
#[test]
fn one_flipped_bit_of_a_certified_key_spoils_it() {
    use x509_cert::der::{Decode as _, Encode as _, pem};
    let mut seen = 0;
    for delivery in Delivery::accepted() {
        let matched = delivery.verdict().expect("an accepted row");
        let Ok((label @ "CERTIFICATE", der)) = pem::decode_vec(delivery.secrets[matched].trim_ascii()) else {
            continue;
        };
        seen += 1;
        // The same key is in many vectors.
        if seen > 2 {
            break;
        }
        let certificate = x509_cert::Certificate::from_der(&der).expect("a certificate");
        let key =
            certificate.tbs_certificate.subject_public_key_info.subject_public_key.to_der().expect("a key");
        let at = der.windows(key.len()).position(|window| window == key).expect("the key is in there");
        for bit in bits(key.len()) {
            let mut spoilt_der = der.clone();
            spoilt_der[at + bit / 8] ^= 1 << (bit % 8);
            let mut spoilt = delivery.clone();
            spoilt.secrets[matched] =
                pem::encode_string(label, pem::LineEnding::LF, &spoilt_der).expect("PEM").into_bytes();
            spoilt.must_fail("certified key");
        }
    }
    assert!(seen > 0, "no vector has a certificate");
}

#[test]
fn without_a_secret_nothing_passes() {
    for delivery in Delivery::accepted() {
        for secrets in [vec![], vec![Vec::new()], vec![b" \n".to_vec()]] {
            Delivery { secrets, ..delivery.clone() }.must_fail("secret");
        }
    }
}

#[test]
fn without_its_signature_nothing_passes() {
    for delivery in Delivery::accepted() {
        for place in delivery.scheme.signatures.iter().flat_map(|rule| &rule.places) {
            let Some(value) = delivery.find(place) else { continue };
            // Beside others one may be missing.
            let others = delivery
                .rules()
                .iter()
                .flat_map(|rule| &rule.places)
                .any(|other| other != place && delivery.find(other).is_some());
            if !others {
                delivery.put(place, &value, b"").expect("an empty value").must_fail("signature");
            }
            let Some(name) = place.header_name() else { continue };
            let mut twice = delivery.clone();
            twice.headers.push((name.to_uppercase(), value));
            assert_eq!(twice.verdict(), Err(Rejection::Repeated(place.to_string())), "{}", delivery.row);
            if !others {
                let mut without = delivery.clone();
                without.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
                without.must_fail("signature");
            }
        }
    }
}
