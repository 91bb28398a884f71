//! Test vectors: rows of `{id, scheme, method, url, headers, body, secret, now, options, expect}`, in
//! JSON, or inside a scheme file as `[[vector]]`. For the tests here and for `hetuflow signature test`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Rejection, Request, Scheme, SchemeError, Secret, Verified, scheme::File};

/// One request and what its scheme should make of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) id: String,
    /// Without it, what stands before the slash in the id. In a scheme file it is always that file's.
    scheme: Option<String>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expect is \"accept\", \"reject\" or an answer {status, headers, body}")]
enum Expectation {
    Verdict(Verdict),
    /// The answer to a provider's handshake.
    Answer {
        status: u16,
    },
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

    fn verify(&self, scheme: &Scheme) -> Result<Verified, Rejection> {
        let headers = self.headers();
        let secrets: Vec<Secret> = self.secrets().iter().map(|secret| Secret::new(secret.as_str())).collect();
        let request =
            Request { method: &self.method, url: &self.url, headers: &headers, body: self.body.as_bytes() };
        scheme.verify(&request, &secrets, self.now)
    }

    fn result(&self, scheme: Result<&Scheme, &SchemeError>) -> RowResult {
        let outcome = match (self.expect, scheme) {
            (_, Err(error)) => Err(error.to_string()),
            (Expectation::Answer { status }, Ok(_)) => {
                Err(format!("expected an answer with status {status}, but this scheme knows no handshake"))
            }
            (Expectation::Verdict(verdict), Ok(scheme)) => self.judge(verdict, scheme),
        };
        let ok = outcome.is_ok();
        RowResult { id: self.id.clone(), ok, detail: outcome.unwrap_or_else(|difference| difference) }
    }

    /// What came out, or how it differs from what was expected.
    fn judge(&self, expected: Verdict, scheme: &Scheme) -> Result<String, String> {
        match (expected, self.verify(scheme)) {
            (Verdict::Accept, Ok(_)) => Ok("accept".to_owned()),
            (Verdict::Reject, Err(reason)) => Ok(format!("reject: {reason}")),
            (Verdict::Accept, Err(reason)) => Err(format!("expected accept, got reject: {reason}")),
            (Verdict::Reject, Ok(_)) => Err("expected reject, got accept".to_owned()),
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
        let line = |row: &RowResult| format!("{} {} {}", row.id, row.ok, row.detail);
        let lines: Vec<String> = run(rows).expect("rows").iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "github/a true accept",
                "github/b false expected accept, got reject: header x-hub-signature-256 is missing or empty",
                "github/c true reject: no secret is configured, or one is empty",
                "hmac/d false scheme \"hmac\" needs the option \"header\": the header that holds the signature",
                "gihub/e false there is no scheme \"gihub\" (did you mean \"github\"? \
                 Allowed: github, hmac, standard-webhooks)",
                "github/f false expected an answer with status 200, but this scheme knows no handshake",
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
