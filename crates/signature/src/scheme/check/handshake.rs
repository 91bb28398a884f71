//! The `[[handshake]]` and `[[ping]]` tables of a file.

use super::{
    super::file::{AnswerTable, HandshakeTable, MacTable, PingTable},
    Named, Problem, place, signature, template, unknown,
};
use crate::{
    algorithm::{Algorithm, Hash},
    encoding::Encoding,
    handshake::{AnswerBody, Handshake, MacRule, Method, Ping, Proof, Signed, may_answer},
    template::{Template, Value},
};

pub(super) fn read_all(tables: Vec<HandshakeTable>, named: &Named) -> Result<Vec<Handshake>, Problem> {
    tables.into_iter().enumerate().map(|(n, table)| read(n, table, named)).collect()
}

fn read(n: usize, table: HandshakeTable, named: &Named) -> Result<Handshake, Problem> {
    let at = |key: &str| format!("handshake.{n}.{key}");
    let method = Method::from_name(&table.method)
        .ok_or_else(|| unknown(at("method"), &table.method, &Method::NAMES))?;
    let proof = match (table.signed, table.token, table.sets_secret) {
        (false, None, None) => Proof::None,
        (true, None, None) if method == Method::Post => Proof::Signature,
        (true, None, None) => return Err(Problem::new(at("signed"), "only a POST can be signed")),
        (false, Some(token), None) => Proof::Token(place::read(&at("token"), token)?),
        (false, None, Some(secret)) => Proof::SetsSecret(place::read(&at("sets_secret"), secret)?),
        _ => return Err(Problem::new(format!("handshake.{n}"), "name one of signed, token, sets_secret")),
    };
    let when = place::conditions(&at("when"), table.when)?;
    if method == Method::Post && when.is_empty() {
        return Err(Problem::new(at("when"), "say by what it is told from a delivery"));
    }
    if table.mac.is_some() && !matches!(proof, Proof::Signature) {
        let wrong = "an answer that is computed with the secret needs signed = true: \
                     otherwise anyone could have texts signed";
        return Err(Problem::new(at("mac"), wrong));
    }
    let mac = table.mac.as_ref().map(|table| mac(&at("mac"), table, named)).transpose()?;
    let answer = answer(&at("answer"), &table.answer, named, mac.as_ref())?;
    let visit = table.visit.map(|table| signature::fetch(&at("visit"), table)).transpose()?;
    let Answer { status, headers, body } = answer;
    Ok(Handshake { about: table.about, method, when, proof, visit, mac, status, headers, body })
}

fn mac(at: &str, table: &MacTable, named: &Named) -> Result<MacRule, Problem> {
    let hash: Option<Hash> = match Algorithm::from_name(&table.algorithm) {
        Some(Algorithm::Hmac(hash)) => Some(hash),
        _ => None,
    };
    let known: Vec<&str> = Algorithm::names().into_iter().filter(|name| name.starts_with("hmac")).collect();
    Ok(MacRule {
        hash: hash.ok_or_else(|| unknown(format!("{at}.algorithm"), &table.algorithm, &known))?,
        of: template(format!("{at}.of"), &table.of, named, |value| matches!(value, Value::At(_)))?,
        encoding: Encoding::from_name(&table.encoding)
            .ok_or_else(|| unknown(format!("{at}.encoding"), &table.encoding, &Encoding::NAMES))?,
    })
}

struct Answer {
    status: u16,
    headers: Vec<(String, Template)>,
    body: AnswerBody,
}

fn answer(at: &str, table: &AnswerTable, named: &Named, mac: Option<&MacRule>) -> Result<Answer, Problem> {
    let status = table.status.unwrap_or(200);
    if !(200..=299).contains(&status) {
        return Err(Problem::new(format!("{at}.status"), "an answer is from 200 to 299"));
    }
    let admits = |value: &Value| may_answer(value) && (*value != Value::Mac || mac.is_some());
    let text = |key: &str, text: &str| template(format!("{at}.{key}"), text, named, admits);
    let mut headers = Vec::new();
    for (name, value) in &table.headers {
        headers.push((place::header(format!("{at}.headers"), name)?, text("headers", value)?));
    }
    let body = match (&table.body, table.json.as_slice()) {
        (None, []) => AnswerBody::Empty,
        (Some(body), []) => AnswerBody::Text(text("body", body)?),
        (None, members) => {
            let members =
                members.iter().map(|member| Ok((member.name.clone(), text("json", &member.value)?)));
            AnswerBody::Json(members.collect::<Result<_, Problem>>()?)
        }
        (Some(_), _) => return Err(Problem::new(at, "an answer is either body or json")),
    };
    // A browser must not take an echo for a page.
    if !headers.iter().any(|(name, _)| name == "content-type") {
        let kind = match &body {
            AnswerBody::Empty => None,
            AnswerBody::Text(_) => Some("text/plain"),
            AnswerBody::Json(_) => Some("application/json"),
        };
        if let Some(kind) = kind {
            headers.push(("content-type".to_owned(), template(at.to_owned(), kind, named, admits)?));
        }
    }
    Ok(Answer { status, headers, body })
}

pub(super) fn read_pings(tables: Vec<PingTable>) -> Result<Vec<Ping>, Problem> {
    let each = tables.into_iter().enumerate();
    each.map(|(n, table)| {
        let at = format!("ping.{n}.when");
        let when = place::conditions(&at, table.when)?;
        if when.is_empty() {
            return Err(Problem::new(at, "say by what it is told from a delivery"));
        }
        Ok(Ping { when, unsigned: if table.unsigned { Signed::Perhaps } else { Signed::Always } })
    })
    .collect()
}
