//! Places and conditions of a file.

use super::{
    super::file::{ConditionTable, OneOrMore, PlaceTable, Places},
    Problem,
};
use crate::{
    condition::{Condition, Subject, Test},
    json::Pointer,
    place::{At, Cut, Place},
};

const KINDS: &str = "name one of header, query, form, body (a JSON pointer), claim, all";

pub(super) fn places(at: &str, places: Option<Places>) -> Result<Vec<Place>, Problem> {
    let Some(Places(tables)) = places else { return Ok(Vec::new()) };
    tables.into_iter().map(|table| read(at, table)).collect()
}

pub(super) fn read(at: &str, table: PlaceTable) -> Result<Place, Problem> {
    let cut = cut(at, table.separator, table.prefix)?;
    let mut found = Vec::new();
    if let Some(name) = table.header {
        found.push(At::Header(header(format!("{at}.header"), &name)?));
    }
    found.extend(named(table.query, At::Query));
    found.extend(named(table.form, At::Form));
    if let Some(text) = table.body {
        found.push(At::Body(pointer(&format!("{at}.body"), &text)?));
    }
    if let Some(text) = table.claim {
        found.push(At::Claim(claim(&format!("{at}.claim"), &text)?));
    }
    if let Some(tables) = table.all {
        let parts = tables.into_iter().map(|table| read(&format!("{at}.all"), table));
        found.push(At::All(parts.collect::<Result<_, _>>()?));
    }
    match (found.pop(), found.is_empty()) {
        (Some(place), true) => Ok(Place { at: place, cut }),
        _ => Err(Problem::new(at, KINDS)),
    }
}

fn named(name: Option<String>, at: impl Fn(String) -> At) -> Option<At> {
    name.filter(|name| !name.is_empty()).map(at)
}

fn cut(at: &str, separator: Option<String>, prefix: Option<String>) -> Result<Option<Cut>, Problem> {
    match (separator, prefix) {
        (None, None) => Ok(None),
        (Some(separator), _) if separator.is_empty() => {
            Err(Problem::new(format!("{at}.separator"), "it must not be empty"))
        }
        (separator, Some(prefix)) => Ok(Some(Cut { separator, prefix })),
        (Some(_), None) => {
            Err(Problem::new(format!("{at}.prefix"), "say which of the items: prefix = \"t=\""))
        }
    }
}

/// In lower case, as servers compare them.
pub(super) fn header(place: impl Into<String>, name: &str) -> Result<String, Problem> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(Problem::new(place, format!("{name:?} cannot be the name of a header")))
}

pub(super) fn pointer(at: &str, text: &str) -> Result<Pointer, Problem> {
    Pointer::parse(text).map_err(|why| Problem::new(at, why))
}

/// `iss` is short for `/iss`.
fn claim(at: &str, text: &str) -> Result<Pointer, Problem> {
    pointer(at, &if text.starts_with('/') { text.to_owned() } else { format!("/{text}") })
}

pub(super) fn conditions(at: &str, tables: Vec<ConditionTable>) -> Result<Vec<Condition>, Problem> {
    let each = tables.into_iter().enumerate();
    each.map(|(n, table)| condition(&format!("{at}.{n}"), table)).collect()
}

fn condition(at: &str, table: ConditionTable) -> Result<Condition, Problem> {
    let known = |allowed: OneOrMore| Test::Is(allowed.into_vec());
    let tests = [
        table.is.map(known),
        table.starts.map(Test::Starts),
        table.present.map(|there| if there { Test::Present } else { Test::Absent }),
    ];
    let mut tests = tests.into_iter().flatten();
    let (test, more) = (tests.next(), tests.next());
    let mut subjects =
        [table.method.map(|one| (Subject::Method, one)), table.path.map(|one| (Subject::Path, one))]
            .into_iter()
            .flatten();
    if let (Some((subject, allowed)), None) = (subjects.next(), &test) {
        return Ok(Condition { subject, test: known(allowed) });
    }
    let (Some(test), None) = (test, more) else {
        return Err(Problem::new(at, "say what must be so: one of is, starts, present"));
    };
    let place = PlaceTable {
        header: table.header,
        query: table.query,
        form: table.form,
        body: table.body,
        claim: table.claim,
        ..PlaceTable::default()
    };
    Ok(Condition { subject: Subject::At(read(at, place)?), test })
}
