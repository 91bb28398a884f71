//! From a file to a [`Scheme`]: every name exists, every place can be read, and nothing is left to chance.

mod cover;
mod handshake;
mod place;
mod signature;

use std::{collections::BTreeMap, fmt, time::Duration};

use hetuflow_core::suggest::among;

use super::{
    Address, Dedupe, DeliveryRule, HashRule, Replay, Sample, Scheme,
    file::{DedupeTable, DeliveryTable, File, HashTable, OneOrMore, PlaceTable, TimestampTable},
};
use crate::{
    algorithm::Hash,
    encoding::Encoding,
    form::{self, UrlVariants},
    json::Pointer,
    template::{Piece, Template, Value},
    timestamp::{Presence, TimestampRule, Unit},
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

/// What every scheme lets a trigger set.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub(super) replay: Option<String>,
    pub(super) url: Option<String>,
    pub(super) tolerance: Option<Duration>,
}

pub(super) use cover::signs_id;

type Named = BTreeMap<String, String>;

pub(super) fn check(name: &str, file: File, common: Common) -> Result<Scheme, Problem> {
    if file.about.trim().is_empty() {
        return Err(Problem::new("about", "say whose deliveries these are"));
    }
    let named = file.values;
    let signatures = signature::read_all(file.signature, file.message.as_deref(), &named)?;
    let hashes = file.hashes.into_iter().enumerate();
    let scheme = Scheme {
        name: name.to_owned(),
        about: file.about,
        docs: file.docs,
        each: file
            .each
            .map(|text| Pointer::parse(&text))
            .transpose()
            .map_err(|why| Problem::new("each", why))?,
        timestamp: file.timestamp.map(|table| timestamp(table, common.tolerance)).transpose()?,
        hashes: hashes.map(|(n, table)| hash(n, table, &named)).collect::<Result<_, _>>()?,
        require: place::conditions("require", file.require)?,
        delivery: delivery(file.delivery, file.dedupe, common.replay.as_deref())?,
        handshakes: handshake::read_all(file.handshakes, &named)?,
        pings: handshake::read_pings(file.pings)?,
        unsigned_body: file.unsigned_body,
        address: address(&file.url_variants, common.url)?,
        sample: Sample { event_type: file.sample.event_type, body: file.sample.body },
        signatures,
    };
    cover::check(&scheme)?;
    Ok(scheme)
}

fn hash(n: usize, table: HashTable, named: &Named) -> Result<HashRule, Problem> {
    let at = |key: &str| format!("hash.{n}.{key}");
    let encoding = Encoding::from_name(&table.encoding)
        .ok_or_else(|| unknown(at("encoding"), &table.encoding, &Encoding::NAMES))?;
    Ok(HashRule {
        when: place::conditions(&at("when"), table.when)?,
        of: template(at("of"), table.of.as_deref().unwrap_or("{body}"), named, |value| *value != Value::Mac)?,
        algorithm: Hash::from_name(&table.algorithm)
            .ok_or_else(|| unknown(at("algorithm"), &table.algorithm, &Hash::NAMES))?,
        encoding,
        equals: place::read(&at("equals"), table.equals)?,
    })
}

fn timestamp(table: TimestampTable, wanted: Option<Duration>) -> Result<TimestampRule, Problem> {
    let unit = table.unit.as_deref().unwrap_or("s");
    let tolerance = wanted.or(table.tolerance).unwrap_or(DEFAULT_TOLERANCE);
    let cut = (table.separator, table.prefix);
    let headers = table.header.map(OneOrMore::into_vec).unwrap_or_default();
    let headers = headers.into_iter().map(|name| PlaceTable { header: Some(name), ..PlaceTable::default() });
    let other = PlaceTable {
        query: table.query,
        form: table.form,
        body: table.body,
        claim: table.claim,
        ..PlaceTable::default()
    };
    let others = Some(other).filter(|other| !other.is_empty());
    let places = headers.chain(others).map(|place| {
        let (separator, prefix) = cut.clone();
        place::read("timestamp", PlaceTable { separator, prefix, ..place })
    });
    let places = places.collect::<Result<Vec<_>, _>>()?;
    if places.is_empty() {
        return Err(Problem::new("timestamp.header", "name the header"));
    }
    Ok(TimestampRule {
        places,
        unit: Unit::from_name(unit).ok_or_else(|| unknown("timestamp.unit", unit, &Unit::NAMES))?,
        tolerance,
        ahead: table.ahead.filter(|_| wanted.is_none()).unwrap_or(tolerance),
        presence: if table.optional { Presence::Optional } else { Presence::Required },
    })
}

fn delivery(
    table: DeliveryTable,
    dedupe: DedupeTable,
    replay: Option<&str>,
) -> Result<DeliveryRule, Problem> {
    if dedupe.because.trim().is_empty() {
        return Err(Problem::new("dedupe.because", "say why the rule is right for this provider"));
    }
    Ok(DeliveryRule {
        id: place::places("delivery.id", table.id)?,
        event_type: place::places("delivery.event_type", table.event_type)?,
        dedupe: dedupe_by(dedupe.by.into_vec())?,
        because: dedupe.because,
        replay: match replay {
            None => Replay::AsSchemeSays,
            Some("strict") => Replay::Strict,
            Some(other) => return Err(unknown("replay", other, &["strict"])),
        },
    })
}

fn dedupe_by(names: Vec<String>) -> Result<Vec<Dedupe>, Problem> {
    if names == ["never"] {
        return Ok(Vec::new());
    }
    let rule = |name: String| match name.as_str() {
        "delivery_id" => Ok(Dedupe::DeliveryId),
        "message" => Ok(Dedupe::Message),
        other => Err(unknown("dedupe.by", other, &["delivery_id", "message", "never"])),
    };
    names.into_iter().map(rule).collect()
}

fn address(variants: &[String], public: Option<String>) -> Result<Address, Problem> {
    let variants = match variants {
        [] => UrlVariants::AsIs,
        [one] if one == "port" => UrlVariants::Port,
        [one, ..] => return Err(unknown("url_variants", one, &["port"])),
    };
    if let Some(url) = &public
        && (form::split(url).is_none() || url.contains(['?', '#']))
    {
        let wrong = "it must be the hook's address as the provider calls it, such as \
                     \"https://example.com/hooks/name\", without a query";
        return Err(Problem::new("url", wrong));
    }
    Ok(Address { variants, public })
}

/// A template in which every value is one of those that its place can fill.
fn template(
    place: String,
    text: &str,
    named: &Named,
    admits: impl Fn(&Value) -> bool,
) -> Result<Template, Problem> {
    let read =
        Template::parse(text).and_then(|template| template.with_values(|name| named.get(name).cloned()));
    let template = read.map_err(|why| Problem::new(place.as_str(), why))?;
    if template.values().into_iter().all(admits) {
        return Ok(template);
    }
    Err(Problem::new(place, format!("{text:?} holds a value that cannot stand here")))
}

/// Two requests must not be able to share one message by moving bytes from one value to the next. A timestamp
/// may touch its neighbour, because providers do so, it is written in one way only, and judged by the clock.
fn separated(template: &Template) -> bool {
    let loose = |piece: &Piece| {
        matches!(piece, Piece::Value(Value::Id))
            || matches!(piece, Piece::Value(Value::At(place)) if place.header_name().is_some())
    };
    let follows = |piece: &Piece| !matches!(piece, Piece::Text(_) | Piece::Value(Value::Timestamp));
    !template.pieces().windows(2).any(|pair| loose(&pair[0]) && follows(&pair[1]))
}

fn unknown(place: impl Into<String>, name: &str, known: &[&str]) -> Problem {
    Problem::new(place, format!("{name:?} is not known ({})", among(name, known)))
}
