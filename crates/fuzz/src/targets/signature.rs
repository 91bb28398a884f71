//! Signature headers of every family: the vectors of all schemes, with something of the request changed. Whatever is
//! still accepted is what was signed, to the byte; what the head alone refuses is never accepted whole; and what a scheme
//! signs itself, it accepts.

use anyhow::Context;
use arbitrary::{Result, Unstructured};
use hetuflow_signature::{Rejection, Request, Scheme, Secret, Verified, Waiting};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Attempt;
use crate::mutate;

/// A vector that is accepted.
#[derive(Clone)]
struct Case {
    id: String,
    scheme: Scheme,
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    secrets: Vec<String>,
    /// Of what was signed; `None` where a body may change unnoticed.
    digest: Option<String>,
}

pub(super) fn target(files: &[(String, String)]) -> anyhow::Result<Attempt> {
    let mut cases = Vec::new();
    for (name, text) in files {
        let file: toml::Table = text.parse().with_context(|| format!("schemes/{name}.toml"))?;
        let rows = file.get("vector").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let accepted: Vec<Case> = rows.iter().filter_map(|row| case(name, text, row)).collect();
        anyhow::ensure!(!accepted.is_empty(), "no vector of {name} is accepted");
        cases.extend(accepted);
    }
    let whole = cases.iter().filter(|case| case.digest.is_some()).count();
    anyhow::ensure!(whole > files.len(), "only {whole} vectors say what was signed");
    Ok(Box::new(move |u| {
        let case = u.choose(&cases)?;
        if u.ratio(1, 8)? { round_trip(u, case) } else { changed(u, case) }
    }))
}

fn case(name: &str, text: &str, row: &toml::Value) -> Option<Case> {
    let of = |key: &str| row.get(key).and_then(toml::Value::as_str);
    if of("expect") != Some("accept") {
        return None;
    }
    let options = row.get("options").and_then(|options| serde_json::to_value(options).ok());
    let mut options: Map<String, Value> =
        options.and_then(|value| value.as_object().cloned()).unwrap_or_default();
    // So that what was signed has a digest.
    options.entry("replay").or_insert_with(|| "strict".into());
    let scheme = Scheme::with_options(name, text, &options).ok()?;
    let headers = row.get("headers").and_then(toml::Value::as_table).into_iter().flatten();
    let headers =
        headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.as_bytes().to_vec())));
    let secrets = match row.get("secret") {
        Some(toml::Value::Array(list)) => {
            list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
        }
        Some(one) => vec![one.as_str()?.to_owned()],
        None => Vec::new(),
    };
    let mut case = Case {
        id: of("id").unwrap_or_default().to_owned(),
        scheme,
        method: of("method").unwrap_or("POST").to_owned(),
        url: of("url").unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: of("body").unwrap_or_default().as_bytes().to_vec(),
        secrets,
        digest: None,
    };
    // A few are answered and not verified.
    let verified = case.verify().ok()?;
    case.digest = digest(&verified).filter(|_| case.scheme.unsigned_body().is_none());
    Some(case)
}

/// The second key, or the first where that is it already.
fn digest(verified: &Verified) -> Option<String> {
    verified.replay_key.clone().or_else(|| verified.dedupe_key.clone())
}

impl Case {
    fn secrets(&self) -> Vec<Secret> {
        self.secrets.iter().map(|secret| Secret::new(secret.as_str())).collect()
    }

    fn request(&self) -> Request<'_> {
        Request { method: &self.method, url: &self.url, headers: &self.headers, body: &self.body }
    }

    fn verify(&self) -> std::result::Result<Verified, Rejection> {
        self.scheme.verify(&self.request(), &self.secrets(), None)
    }
}

fn changed(u: &mut Unstructured<'_>, case: &Case) -> Result<()> {
    let mut other = case.clone();
    for _ in 0..u.int_in_range(1..=2)? {
        change(u, &mut other)?;
    }
    let verified = other.verify();
    let now = Timestamp::from_second(u.int_in_range(0..=4_000_000_000)?).ok();
    let in_time = other.scheme.verify(&other.request(), &other.secrets(), now);
    assert!(verified.is_ok() || in_time.is_err(), "{}: the time makes it authentic", case.id);
    let head = Request { body: b"", ..other.request() };
    if let Err(refused) = other.scheme.check_head(&head, None) {
        assert!(verified.is_err(), "{}: its head is refused ({refused}), and all of it is accepted", case.id);
    }
    let _ = other.scheme.judge(&other.request(), &other.secrets(), now, Waiting::ForSecret);
    if let (Ok(verified), Some(expected)) = (verified, &case.digest)
        && other.secrets == case.secrets
    {
        assert_eq!(digest(&verified).as_ref(), Some(expected), "{}: something else is accepted", case.id);
    }
    Ok(())
}

fn change(u: &mut Unstructured<'_>, case: &mut Case) -> Result<()> {
    match u.int_in_range(0..=9)? {
        0..=4 if !case.headers.is_empty() => {
            let at = u.choose_index(case.headers.len())?;
            mutate::bytes(u, &mut case.headers[at].1)
        }
        5 | 6 => mutate::bytes(u, &mut case.body),
        7 => {
            case.url = mutate::text(u, &case.url)?;
            Ok(())
        }
        8 if !case.headers.is_empty() => {
            let (name, value) = u.choose(&case.headers)?.clone();
            case.headers.push((mutate::text(u, &name)?, value));
            Ok(())
        }
        _ if !case.secrets.is_empty() => {
            let at = u.choose_index(case.secrets.len())?;
            case.secrets[at] = mutate::text(u, &case.secrets[at])?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn round_trip(u: &mut Unstructured<'_>, case: &Case) -> Result<()> {
    let now = Timestamp::from_second(u.int_in_range(1..=4_000_000_000)?).unwrap_or_default();
    let length = u.arbitrary_len::<u8>()?;
    let body = u.bytes(length)?.to_vec();
    let Some(secret) = case.secrets().into_iter().next() else { return Ok(()) };
    // Not all sign: some have no private key, or their signature stands in the body.
    let Ok(signed) = case.scheme.sign(&secret, &body, "msg_1", "created", now) else { return Ok(()) };
    let headers: Vec<_> = signed.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let request = Request { method: "POST", url: "/", headers: &headers, body: &body };
    let verified = case.scheme.verify(&request, &[secret], Some(now));
    let wants_more = case.scheme.signs_url() || matches!(verified, Err(Rejection::Missing(_)));
    assert!(verified.is_ok() || wants_more, "{}: what it signed is refused: {verified:?}", case.id);
    Ok(())
}
