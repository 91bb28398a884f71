//! From a file to a [`Scheme`]: every name exists, every place can be read, and nothing is left to chance.

use std::{fmt, time::Duration};

use hetuflow_core::suggest::among;

use super::{
    Dedupe, DeliveryRule, Sample, Scheme, SignatureRule, TimestampRule, Unit,
    file::{DedupeTable, DeliveryTable, File, PlaceTable, SignatureTable, TimestampTable},
};
use crate::{
    algorithm::{Algorithm, Hash},
    encoding::Encoding,
    message::{Message, Value},
    place::{Place, Pointer},
};

/// Where a provider names none.
const DEFAULT_TOLERANCE: Duration = Duration::from_mins(5);

/// What is wrong at one place of a file.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: String,
    pub(super) message: String,
}

impl Problem {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

pub(super) fn check(name: &str, file: File) -> Result<Scheme, Problem> {
    let message = Message::parse(&file.message).map_err(|wrong| Problem::new("message", wrong))?;
    let timestamp = file.timestamp.map(timestamp).transpose()?;
    let delivery = delivery(file.delivery, &file.dedupe)?;
    agree(&message, timestamp.as_ref(), &delivery)?;
    Ok(Scheme {
        name: name.to_owned(),
        message,
        signatures: signatures(file.signature)?,
        timestamp,
        delivery,
        sample: Sample { event_type: file.sample.event_type, body: file.sample.body },
    })
}

fn signatures(tables: Vec<SignatureTable>) -> Result<Vec<SignatureRule>, Problem> {
    if tables.is_empty() {
        return Err(Problem::new("signature", "there must be at least one"));
    }
    tables.into_iter().enumerate().map(|(n, table)| signature(n, table)).collect()
}

fn signature(n: usize, table: SignatureTable) -> Result<SignatureRule, Problem> {
    let at = |key: &str| format!("signature.{n}.{key}");
    let algorithm = Algorithm::from_name(&table.algorithm)
        .ok_or_else(|| unknown(at("algorithm"), &table.algorithm, &Algorithm::NAMES))?;
    if algorithm == Algorithm::Hmac(Hash::Sha1) && !table.legacy {
        return Err(Problem::new(
            at("algorithm"),
            "SHA-1 is for old senders only: add legacy = true to use it",
        ));
    }
    if table.separator.as_deref() == Some("") {
        return Err(Problem::new(at("separator"), "it must not be empty"));
    }
    // A secret without a prefix belongs to the first rule; it must not fit two kinds of key.
    if n > 0 && table.key.prefixes.is_empty() {
        return Err(Problem::new(at("key.prefixes"), "every rule after the first needs one"));
    }
    Ok(SignatureRule {
        header: header(at("header"), table.header)?,
        separator: table.separator,
        prefix: table.prefix,
        algorithm,
        encoding: Encoding::from_name(&table.encoding)
            .ok_or_else(|| unknown(at("encoding"), &table.encoding, &Encoding::NAMES))?,
        key_prefixes: table.key.prefixes,
        key_encoding: key_encoding(at("key.encoding"), table.key.encoding.as_deref())?,
    })
}

fn key_encoding(place: String, name: Option<&str>) -> Result<Option<Encoding>, Problem> {
    match name {
        None | Some("raw") => Ok(None),
        Some(name) => Encoding::from_name(name)
            .map(Some)
            .ok_or_else(|| unknown(place, name, &["raw", "hex", "base64", "base64url"])),
    }
}

fn timestamp(table: TimestampTable) -> Result<TimestampRule, Problem> {
    let unit = match table.unit.as_deref() {
        None | Some("s") => Unit::Seconds,
        Some("ms") => Unit::Milliseconds,
        Some(other) => return Err(unknown("timestamp.unit", other, &["s", "ms"])),
    };
    Ok(TimestampRule {
        header: header("timestamp.header", table.header)?,
        unit,
        tolerance: table.tolerance.unwrap_or(DEFAULT_TOLERANCE),
    })
}

fn delivery(table: DeliveryTable, dedupe: &DedupeTable) -> Result<DeliveryRule, Problem> {
    if dedupe.because.trim().is_empty() {
        return Err(Problem::new("dedupe.because", "say why the rule is right for this provider"));
    }
    Ok(DeliveryRule {
        id: table.id.map(|table| place("delivery.id", table)).transpose()?,
        event_type: table.event_type.map(|table| place("delivery.event_type", table)).transpose()?,
        dedupe: match dedupe.by.as_str() {
            "delivery_id" => Dedupe::DeliveryId,
            "message" => Dedupe::Message,
            "never" => Dedupe::Never,
            other => return Err(unknown("dedupe.by", other, &["delivery_id", "message", "never"])),
        },
    })
}

fn place(at: &str, table: PlaceTable) -> Result<Place, Problem> {
    match (table.header, table.body) {
        (Some(name), None) => header(format!("{at}.header"), Some(name)).map(Place::Header),
        (None, Some(pointer)) => Pointer::parse(&pointer)
            .map(Place::Body)
            .map_err(|wrong| Problem::new(format!("{at}.body"), wrong)),
        (None, None) | (Some(_), Some(_)) => Err(Problem::new(at, "name either a header or a body pointer")),
    }
}

/// What the message holds must be read from somewhere, and what is judged must be signed.
fn agree(
    message: &Message,
    timestamp: Option<&TimestampRule>,
    delivery: &DeliveryRule,
) -> Result<(), Problem> {
    match (message.holds(Value::Timestamp), timestamp) {
        (true, None) => {
            return Err(Problem::new("timestamp.header", "the message holds {timestamp}: name its header"));
        }
        (false, Some(_)) => {
            let wrong = "it does not hold {timestamp}, and an unsigned timestamp proves nothing";
            return Err(Problem::new("message", wrong));
        }
        (true, Some(_)) | (false, None) => {}
    }
    if message.holds(Value::Id) && !matches!(delivery.id, Some(Place::Header(_))) {
        return Err(Problem::new("delivery.id.header", "the message holds {id}: name its header"));
    }
    Ok(())
}

/// In lower case, as servers compare them.
fn header(place: impl Into<String>, name: Option<String>) -> Result<String, Problem> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match name {
        None => Err(Problem::new(place, "name the header")),
        Some(name) if !name.is_empty() && name.bytes().all(token) => Ok(name.to_ascii_lowercase()),
        Some(name) => Err(Problem::new(place, format!("{name:?} cannot be the name of a header"))),
    }
}

fn unknown(place: impl Into<String>, name: &str, known: &[&str]) -> Problem {
    Problem::new(place, format!("{name:?} is not known ({})", among(name, known)))
}
