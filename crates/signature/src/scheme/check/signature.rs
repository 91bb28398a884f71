//! The `[[signature]]` tables of a file.

use super::{
    super::{
        KeyRule, SignatureRule,
        file::{FetchTable, JwtTable, KeyTable, OneOrMore, PlaceTable, SignatureTable},
    },
    Named, Problem, place, separated, template, unknown,
};
use crate::{
    algorithm::Algorithm,
    encoding::Encoding,
    fetch::{Address, Fetch},
    jwt::JwtRule,
    place::Place,
    template::{Template, Value},
};

pub(super) fn read_all(
    tables: Vec<SignatureTable>,
    message: Option<&str>,
    named: &Named,
) -> Result<Vec<SignatureRule>, Problem> {
    let keys: Vec<KeyTable> = tables.iter().map(|table| table.key.clone()).collect();
    let mut rules = Vec::new();
    for (n, table) in tables.into_iter().enumerate() {
        let family = keys.iter().position(|key| *key == keys[n]).unwrap_or(n);
        // A secret without a prefix belongs to the first rule; it must not fit two kinds of key.
        if family > 0 && table.key.prefixes.is_empty() {
            let wrong = "a rule whose keys are not those of the first one needs a prefix to tell them by";
            return Err(Problem::new(format!("signature.{n}.key.prefixes"), wrong));
        }
        rules.push(read(n, table, message, named, family)?);
    }
    if rules.is_empty() {
        return Err(Problem::new("signature", "there must be at least one"));
    }
    kinds(&rules)?;
    Ok(rules)
}

/// A key that anyone may know must never be one that signs, nor one that is sent be one that is kept.
fn kinds(rules: &[SignatureRule]) -> Result<(), Problem> {
    let kind = |rule: &SignatureRule| match &rule.jwt {
        Some(jwt) => jwt.algorithms.first().map(|(_, algorithm)| (algorithm.is_public(), false)),
        None => Some((rule.algorithm.is_public(), rule.algorithm == Algorithm::Equality)),
    };
    for (n, rule) in rules.iter().enumerate() {
        let at = format!("signature.{n}.algorithm");
        if kind(rule) != kind(&rules[rule.key.family]) {
            return Err(Problem::new(
                at,
                "it would take the same secrets as another kind of algorithm above",
            ));
        }
        if rule.key.fetch.is_some() && !rule.is_public() {
            let wrong = "a key that signs must be known to nobody else: it is not published at an address";
            return Err(Problem::new(format!("signature.{n}.key.fetch"), wrong));
        }
        if rule.jwt.is_some() != rules[0].jwt.is_some() {
            return Err(Problem::new(at, "tokens and other signatures do not mix in one scheme"));
        }
    }
    Ok(())
}

fn read(
    n: usize,
    table: SignatureTable,
    message: Option<&str>,
    named: &Named,
    family: usize,
) -> Result<SignatureRule, Problem> {
    let at = |key: &str| format!("signature.{n}.{key}");
    let algorithm = Algorithm::from_name(&table.algorithm)
        .ok_or_else(|| unknown(at("algorithm"), &table.algorithm, &Algorithm::names()))?;
    if algorithm.is_legacy() && !table.legacy {
        return Err(Problem::new(
            at("algorithm"),
            "SHA-1 is for old senders only: add legacy = true to use it",
        ));
    }
    if table.separator.as_deref() == Some("") {
        return Err(Problem::new(at("separator"), "it must not be empty"));
    }
    let own = table.message.is_some();
    let message_place = if own { at("message") } else { "message".to_owned() };
    Ok(SignatureRule {
        when: place::conditions(&at("when"), table.when)?,
        places: places(n, table.header, table.query, table.form, table.body)?,
        separator: table.separator,
        prefix: table.prefix,
        algorithm,
        encoding: encoding(at("encoding"), algorithm, table.encoding.as_deref())?,
        key: key(n, table.key, family)?,
        message: read_message(message_place, algorithm, table.message.as_deref().or(message), own, named)?,
        jwt: jwt(n, algorithm, table.jwt)?,
    })
}

fn places(
    n: usize,
    header: Option<OneOrMore>,
    query: Option<String>,
    form: Option<String>,
    body: Option<String>,
) -> Result<Vec<Place>, Problem> {
    let at = format!("signature.{n}");
    if query.is_none() && form.is_none() && body.is_none() {
        let missing = || Problem::new(format!("{at}.header"), "name the header");
        let names = header.ok_or_else(missing)?.into_vec();
        let names = names.iter().map(|name| place::header(format!("{at}.header"), name).map(Place::header));
        return names.collect();
    }
    if header.is_some() {
        return Err(Problem::new(at, "a signature stands at one kind of place: header, query, form or body"));
    }
    let table = PlaceTable { query, form, body, ..PlaceTable::default() };
    place::read(&at, table).map(|place| vec![place])
}

fn encoding(place: String, algorithm: Algorithm, name: Option<&str>) -> Result<Encoding, Problem> {
    let plain = matches!(algorithm, Algorithm::Equality | Algorithm::Jwt);
    let encoding = match name {
        None if plain => Encoding::Text,
        None => return Err(Problem::new(place, "say how the signature is written: hex, base64, base64url")),
        Some(name) => {
            Encoding::from_name(name).ok_or_else(|| unknown(place.as_str(), name, &Encoding::NAMES))?
        }
    };
    if (encoding == Encoding::Text) && !plain {
        return Err(Problem::new(place, "text is for secrets that are sent as they are"));
    }
    Ok(encoding)
}

fn read_message(
    place: String,
    algorithm: Algorithm,
    text: Option<&str>,
    own: bool,
    named: &Named,
) -> Result<Template, Problem> {
    if matches!(algorithm, Algorithm::Equality | Algorithm::Jwt) {
        return match text {
            Some(_) if own => Err(Problem::new(place, "nothing is signed with this algorithm")),
            _ => Template::parse("").map_err(|why| Problem::new(place, why)),
        };
    }
    let text =
        text.ok_or_else(|| Problem::new(place.as_str(), "say what is signed: message = \"{body}\""))?;
    let message = template(place.clone(), text, named, |value| *value != Value::Mac)?;
    if !separated(&message) {
        let wrong = format!("{text:?} needs a separator after {{id}} and after headers");
        return Err(Problem::new(place, wrong));
    }
    Ok(message)
}

fn key(n: usize, table: KeyTable, family: usize) -> Result<KeyRule, Problem> {
    let at = |key: &str| format!("signature.{n}.key.{key}");
    let encoding = match table.encoding.as_deref() {
        None | Some("raw") => None,
        Some(name) => {
            let known = Encoding::from_name(name).filter(|encoding| *encoding != Encoding::Text);
            let names = ["raw", "hex", "base64", "base64url"];
            Some(known.ok_or_else(|| unknown(at("encoding"), name, &names))?)
        }
    };
    let fetch = table.fetch.map(|table| fetch(&at("fetch"), table)).transpose()?;
    Ok(KeyRule { prefixes: table.prefixes, encoding, fetch, family })
}

pub(super) fn fetch(at: &str, table: FetchTable) -> Result<Fetch, Problem> {
    let place = PlaceTable { header: table.header, body: table.body, ..PlaceTable::default() };
    let url = match table.url {
        Some(url) if url.starts_with("https://") => Address::Fixed(url),
        Some(_) => return Err(Problem::new(format!("{at}.url"), "it must start with https://")),
        None if table.hosts.is_empty() => {
            return Err(Problem::new(
                format!("{at}.hosts"),
                "an address that a sender names needs a list of hosts",
            ));
        }
        None => Address::At(place::read(at, place)?),
    };
    Ok(Fetch { url, hosts: table.hosts, path: table.path, gives: table.gives })
}

fn jwt(n: usize, algorithm: Algorithm, table: Option<JwtTable>) -> Result<Option<JwtRule>, Problem> {
    let at = |key: &str| format!("signature.{n}.jwt.{key}");
    match (algorithm, table) {
        (Algorithm::Jwt, None) => Err(Problem::new(at("algorithms"), "say which algorithms count")),
        (Algorithm::Jwt, Some(table)) => {
            let algorithms = table.algorithms.into_iter().map(|name| {
                let found = Algorithm::from_token(&name);
                let found = found.ok_or_else(|| unknown(at("algorithms"), &name, &Algorithm::TOKEN_NAMES))?;
                Ok((name, found))
            });
            let algorithms = algorithms.collect::<Result<Vec<_>, Problem>>()?;
            let public = algorithms.iter().filter(|(_, algorithm)| algorithm.is_public()).count();
            if algorithms.is_empty() || (public != 0 && public != algorithms.len()) {
                let wrong = "name at least one, and none with a public key beside one with a secret key";
                return Err(Problem::new(at("algorithms"), wrong));
            }
            Ok(Some(JwtRule { algorithms, claims: table.claims }))
        }
        (_, Some(_)) => Err(Problem::new(format!("signature.{n}.jwt"), "it goes with algorithm = \"jwt\"")),
        (_, None) => Ok(None),
    }
}
