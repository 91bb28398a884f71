//! Test vectors: rows of `{id, scheme, method, url, headers, body, secret, now, options, expect}`, in
//! JSON, or inside a scheme file as `[[vector]]`. For the tests here and for `hetuflow signature test`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Answer, Judged, Rejection, Request, Scheme, SchemeError, Secret, Waiting, scheme::File};

/// One request and what its scheme should make of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) id: String,
    /// Without it, what stands before the slash in the id. In a scheme file it is always that file's.
    scheme: Option<String>,
    /// Without it, POST.
    #[serde(default)]
    method: String,
    #[serde(default)]
    pub(crate) url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: String,
    #[serde(default)]
    secret: OneOrMore,
    /// Seconds since 1970. Without it timestamps are not judged.
    #[serde(default, with = "jiff::fmt::serde::timestamp::second::optional")]
    now: Option<Timestamp>,
    #[serde(default)]
    pub(crate) options: Map<String, Value>,
    expect: Expectation,
    /// `published` by the provider, or `derived` from its documented rule. For readers.
    #[serde(default, rename = "provenance")]
    _provenance: String,
    #[serde(default, rename = "source")]
    _source: String,
    #[serde(default, rename = "note")]
    _note: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a secret is a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expect is \"accept\", \"reject\" or an answer {status, headers, body}")]
enum Expectation {
    Verdict(Verdict),
    /// The answer to a provider's handshake.
    Answer(ExpectedAnswer),
}

/// Headers that are not named may be anything; a body that is not given may too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAnswer {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Accept,
    Reject,
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

/// How one row came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowResult {
    pub id: String,
    /// Whether it came out as the row expects.
    pub ok: bool,
    /// What came out, with the reason; and what was expected where that is not it.
    pub detail: String,
}

/// Runs rows in JSON against the built-in schemes that they name.
pub fn run(rows_json: &str) -> Result<Vec<RowResult>, SchemeError> {
    let rows: Vec<Row> = serde_json::from_str(rows_json)
        .map_err(|error| SchemeError(format!("not a list of vectors: {error}")))?;
    let run = |row: &Row| row.result(Scheme::builtin(row.scheme(), &row.options).as_ref());
    Ok(rows.iter().map(run).collect())
}

/// Runs the vectors of a scheme file against what the file says.
pub fn run_scheme(name: &str, text: &str) -> Result<Vec<RowResult>, SchemeError> {
    let rows = File::parse(name, text)?.vectors;
    Ok(rows.iter().map(|row| row.result(Scheme::with_options(name, text, &row.options).as_ref())).collect())
}

/// A scheme file with the options of its first vector: what it is when nothing else is known.
#[cfg(test)]
pub(crate) fn plain(name: &str, text: &str) -> Result<Scheme, SchemeError> {
    let first = File::parse(name, text)?.vectors.into_iter().next();
    Scheme::with_options(name, text, &first.map(|row| row.options).unwrap_or_default())
}

impl Row {
    fn scheme(&self) -> &str {
        let of_id = || self.id.split_once('/').map_or(self.id.as_str(), |(scheme, _)| scheme);
        self.scheme.as_deref().unwrap_or_else(of_id)
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect()
    }

    pub(crate) fn secrets(&self) -> &[String] {
        match &self.secret {
            OneOrMore::One(secret) => std::slice::from_ref(secret),
            OneOrMore::More(secrets) => secrets,
        }
    }

    pub(crate) fn method(&self) -> &str {
        if self.method.is_empty() { "POST" } else { &self.method }
    }

    /// Without a secret the hook waits for one.
    fn judged(&self, scheme: &Scheme) -> Result<Judged, Rejection> {
        let headers = self.headers();
        let secrets: Vec<Secret> = self.secrets().iter().map(|secret| Secret::new(secret.as_str())).collect();
        let request =
            Request { method: self.method(), url: &self.url, headers: &headers, body: self.body.as_bytes() };
        let waiting = if secrets.is_empty() { Waiting::ForSecret } else { Waiting::No };
        scheme.judge(&request, &secrets, self.now, waiting)
    }

    fn result(&self, scheme: Result<&Scheme, &SchemeError>) -> RowResult {
        let outcome = match scheme {
            Err(error) => Err(error.to_string()),
            Ok(scheme) => self.compare(&self.judged(scheme)),
        };
        let ok = outcome.is_ok();
        RowResult { id: self.id.clone(), ok, detail: outcome.unwrap_or_else(|difference| difference) }
    }

    /// What came out, or how it differs from what was expected.
    fn compare(&self, judged: &Result<Judged, Rejection>) -> Result<String, String> {
        let shown = match judged {
            Ok(Judged::Delivery(_)) => "accept".to_owned(),
            Ok(Judged::Ping { .. }) => "accept: a ping, which starts nothing".to_owned(),
            Ok(Judged::Answer(answer)) => format!("answer {} {:?}", answer.status, answer.body),
            Err(reason) => format!("reject: {reason}"),
        };
        match (&self.expect, judged) {
            (Expectation::Verdict(Verdict::Accept), Ok(Judged::Delivery(_) | Judged::Ping { .. }))
            | (Expectation::Verdict(Verdict::Reject), Err(_)) => Ok(shown),
            (Expectation::Verdict(Verdict::Accept), _) => Err(format!("expected accept, got {shown}")),
            (Expectation::Verdict(Verdict::Reject), _) => Err(format!("expected reject, got {shown}")),
            (Expectation::Answer(expected), Ok(Judged::Answer(answer))) => {
                expected.compare(answer).map(|()| shown)
            }
            (Expectation::Answer(expected), _) => {
                Err(format!("expected an answer with status {}, got {shown}", expected.status))
            }
        }
    }
}

impl ExpectedAnswer {
    fn compare(&self, answer: &Answer) -> Result<(), String> {
        if self.status != answer.status {
            return Err(format!("expected status {}, got {}", self.status, answer.status));
        }
        for (name, wanted) in &self.headers {
            let found = answer.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
            let found = found.map_or("none", |(_, value)| value.as_str());
            if found != wanted {
                return Err(format!("expected {name}: {wanted}, got {found}"));
            }
        }
        match &self.body {
            Some(body) if *body != answer.body => {
                Err(format!("expected body {body:?}, got {:?}", answer.body))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_json() {
        let rows = r#"[
            {"id": "github/a", "scheme": "github", "method": "POST", "url": "/h", "expect": "accept",
             "headers": {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
             "body": "Hello, World!", "secret": "It's a Secret to Everybody", "note": "as published"},
            {"id": "github/b", "secret": ["x"], "now": 1700000000, "expect": "accept"},
            {"id": "github/c", "expect": "reject"},
            {"id": "hmac/d", "expect": "reject"},
            {"id": "gihub/e", "expect": "reject"},
            {"id": "github/f", "method": "GET", "expect": {"status": 200, "headers": {}, "body": "1"}}
        ]"#;
        let line = |row: &RowResult| {
            let detail = row.detail.replace(&Scheme::names().join(", "), "[all]");
            format!("{} {} {detail}", row.id, row.ok)
        };
        let lines: Vec<String> = run(rows).expect("rows").iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "github/a true accept",
                "github/b false expected accept, got reject: header x-hub-signature-256 is missing or empty",
                "github/c true reject: no secret is configured, or one is empty",
                "hmac/d false scheme \"hmac\" needs the option \"header\": the header that holds the signature",
                "gihub/e false there is no scheme \"gihub\" (did you mean \"github\"? Allowed: [all])",
                "github/f false expected an answer with status 200, got reject: GET is neither a delivery nor a \
                 handshake of this scheme",
            ]
        );
    }

    #[test]
    fn what_is_no_row_is_told() {
        let check = |rows: &str, expected: &str| {
            let error = run(rows).expect_err("no rows").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", "not a list of vectors");
        check(r#"[{"id": "github/a", "expect": "acept"}]"#, "expect is \"accept\", \"reject\" or an answer");
        check(
            r#"[{"id": "github/a", "expect": "accept", "secret": 1}]"#,
            "a secret is a text or a list of texts",
        );
        check(r#"[{"id": "github/a", "expect": "accept", "bodi": ""}]"#, "unknown field `bodi`");
    }
}
