//! The body of an event, parsed by its content type under a bound: what breaks the bound is an
//! error with a reason, never a crash and never an unbounded amount of memory.

use memchr::memchr2;
use serde_json::{Map, Value};

use super::Wanted;

/// Lists and objects inside each other, at most.
const MAX_DEPTH: usize = 64;

/// Values of one JSON body, at most: each takes some 32 bytes once parsed.
const MAX_VALUES: usize = 1_000_000;

/// Fields of one form or query, at most.
const MAX_FIELDS: usize = 10_000;

/// The body of an event as conditions and templates see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `application/json` and `+json`; without a content type also what looks and parses like it.
    Json(Value),
    /// `application/x-www-form-urlencoded`: an object of texts; a `payload` field that holds JSON is
    /// the body itself, as GitHub sends it.
    Form(Value),
    /// Any other text: `body` is a string.
    Text(String),
    /// Not UTF-8: conditions see null.
    Bytes,
    Empty,
}

impl Body {
    /// The error says why the bytes are not what the content type says (or nest too deep).
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, String> {
        Self::parse_for(&Wanted::whole(), content_type, bytes)
    }

    /// The same, of JSON with no more than the wanted parts.
    pub fn parse_for(wanted: &Wanted, content_type: Option<&str>, bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::Empty);
        }
        let media_type = content_type.map(essence);
        match media_type.as_deref() {
            Some("application/x-www-form-urlencoded") => form(wanted, bytes),
            Some(kind) if kind == "application/json" || kind.ends_with("+json") => {
                json(wanted, bytes).map(Self::Json)
            }
            None if matches!(bytes.first(), Some(b'{' | b'[')) => {
                Ok(json(wanted, bytes).map_or_else(|_| text(bytes), Self::Json))
            }
            Some(_) | None => Ok(text(bytes)),
        }
    }
}

/// `application/json` of `Application/JSON; charset=utf-8`.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn text(bytes: &[u8]) -> Body {
    str::from_utf8(bytes).map_or(Body::Bytes, |text| Body::Text(text.to_owned()))
}

fn json(wanted: &Wanted, bytes: &[u8]) -> Result<Value, String> {
    bound(bytes)?;
    let text = str::from_utf8(bytes).map_err(|error| format!("the body is not JSON: {error}"))?;
    wanted.read(text).map_err(|error| format!("the body is not JSON: {error}"))
}

/// Judges depth and number of values from the punctuation alone, before anything is allocated.
fn bound(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("the body nests deeper than {MAX_DEPTH} levels"));
        }
        if values > MAX_VALUES {
            return Err(format!("the body has more than {MAX_VALUES} values"));
        }
    }
    Ok(())
}

/// What follows a string that has begun.
fn after_string(mut bytes: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', bytes) {
        if bytes[at] == b'"' {
            return &bytes[at + 1..];
        }
        bytes = bytes.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn form(wanted: &Wanted, bytes: &[u8]) -> Result<Body, String> {
    let fields = fields(bytes).ok_or_else(|| format!("the form has more than {MAX_FIELDS} fields"))?;
    match fields.get("payload").and_then(Value::as_str) {
        Some(payload) if payload.trim_start().starts_with(['{', '[']) => json(wanted, payload.as_bytes())
            .map(Body::Form)
            .map_err(|reason| format!("the form's field \"payload\": {reason}")),
        Some(_) | None => Ok(Body::Form(Value::Object(fields))),
    }
}

/// The fields of a form or a query as texts; of a repeated one the last. `None`: too many.
pub(super) fn fields(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    for (n, (key, value)) in form_urlencoded::parse(bytes).enumerate() {
        if n == MAX_FIELDS {
            return None;
        }
        fields.insert(key.into_owned(), Value::String(value.into_owned()));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_content_type_decides() {
        let check = |content_type: Option<&str>, bytes: &str, expected: Body| {
            assert_eq!(Body::parse(content_type, bytes.as_bytes()), Ok(expected), "{content_type:?} {bytes}");
        };
        let form = Some("application/x-www-form-urlencoded");
        check(Some("application/json"), r#"{"a":1}"#, Body::Json(json!({"a": 1})));
        check(Some("Application/JSON; charset=utf-8"), "[1]", Body::Json(json!([1])));
        check(Some("application/cloudevents+json"), "null", Body::Json(Value::Null));
        check(Some("application/json"), "", Body::Empty);
        check(form, "a=1&b=x+y%21&a=2", Body::Form(json!({"a": "2", "b": "x y!"})));
        check(form, "payload=%7B%22ref%22%3A%22main%22%7D", Body::Form(json!({"ref": "main"})));
        check(form, "payload=hello", Body::Form(json!({"payload": "hello"})));
        check(Some("text/plain"), r#"{"a":1}"#, Body::Text(r#"{"a":1}"#.to_owned()));
        check(None, r#"{"a":1}"#, Body::Json(json!({"a": 1})));
        check(None, "{oh", Body::Text("{oh".to_owned()));
        assert_eq!(Body::parse(Some("image/png"), &[0x89, 0xff]), Ok(Body::Bytes));
    }

    #[test]
    fn what_breaks_a_bound_says_so() {
        let check = |content_type: &str, bytes: &[u8], expected: &str| {
            let reason = Body::parse(Some(content_type), bytes).expect_err("must be refused");
            assert!(reason.contains(expected), "{reason}");
        };
        check("application/json", b"{\"a\":", "the body is not JSON: EOF");
        check("application/json", b"\"\xff\"", "the body is not JSON");
        check("application/json", b"1e999", "the body is not JSON");
        check("application/json", "[".repeat(100_000).as_bytes(), "deeper than 64");
        check(
            "application/json",
            format!("[{}1]", "1,".repeat(MAX_VALUES)).as_bytes(),
            "more than 1000000 values",
        );
        check(
            "application/x-www-form-urlencoded",
            "a&".repeat(MAX_FIELDS + 1).as_bytes(),
            "more than 10000 fields",
        );
        check("application/x-www-form-urlencoded", b"payload={oh", "field \"payload\"");
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Body::parse(Some("application/json"), deep(64).as_bytes()).is_ok());
        assert!(Body::parse(Some("application/json"), deep(65).as_bytes()).is_err());
    }

    #[test]
    fn brackets_in_texts_do_not_count() {
        let text = format!("[\"{}\\\"{}\"]", "[".repeat(100), "{".repeat(100));
        assert!(Body::parse(Some("application/json"), text.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, kind in 0..4) {
            let content_type =
                [None, Some("application/json"), Some("application/x-www-form-urlencoded"), Some("text/plain")]
                    [usize::try_from(kind).expect("small")];
            let _ = Body::parse(content_type, &bytes);
        }
    }
}
