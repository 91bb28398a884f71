//! Options: the values that a trigger sets in a scheme file, at the places that the file offers.

use std::{collections::BTreeMap, fmt, time::Duration};

use hetuflow_core::suggest::among;
use serde_json::{Map, Value};

use super::{
    File, Scheme, SchemeError,
    check::{self, Common, Problem},
    file::{OptionKind, OptionTable},
};

type Offered = BTreeMap<String, OptionTable>;

/// What every scheme lets a trigger set: `replay = "strict"`, `url` where addresses are signed, `tolerance` where
/// timestamps are.
const COMMON: [&str; 3] = ["replay", "url", "tolerance"];

/// The scheme that `text` becomes with `given` set.
pub(super) fn set(name: &str, text: &str, given: &Map<String, Value>) -> Result<Scheme, SchemeError> {
    let file = File::parse(name, text)?;
    let offered = file.options.clone();
    let mut required = offered.iter().filter(|(_, table)| table.required);
    if let Some((option, table)) = required.find(|(option, _)| !given.contains_key(*option)) {
        return fail(name, format_args!("needs the option {option:?}: {}", table.about));
    }
    let is_common = |option: &str| COMMON.contains(&option) && !offered.contains_key(option);
    let own: Map<String, Value> =
        given.iter().filter(|(option, _)| !is_common(option)).map(|(o, v)| (o.clone(), v.clone())).collect();
    let text_of = |option: &str| common_text(name, given.get(option).filter(|_| is_common(option)), option);
    let tolerance = given.get("tolerance").filter(|_| is_common("tolerance"));
    let tolerance = tolerance.map(|value| common_duration(name, value)).transpose()?;
    let common = Common { replay: text_of("replay")?, url: text_of("url")?, tolerance };
    let (needs_url, needs_time) = (common.url.is_some(), tolerance.is_some());
    let file = if own.is_empty() { file } else { overlay(name, text, &own, &offered)? };
    let scheme = check::check(name, file, common).or_else(|problem| explain(name, &problem, &offered))?;
    if needs_url && !scheme.signs_url() {
        return fail(name, format_args!("does not sign addresses: take the option \"url\" out"));
    }
    if needs_time && scheme.timestamp.is_none() {
        return fail(name, format_args!("has no timestamp: take the option \"tolerance\" out"));
    }
    Ok(scheme)
}

fn common_text(name: &str, value: Option<&Value>, option: &str) -> Result<Option<String>, SchemeError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => fail(name, format_args!("option {option:?} must be a text")),
    }
}

fn common_duration(name: &str, value: &Value) -> Result<Duration, SchemeError> {
    let converted = convert(value, OptionKind::Duration);
    let parsed = converted.ok().and_then(|value| match value.as_str() {
        Some(text) => hetuflow_core::duration::parse(text).ok(),
        None => value.as_integer().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    });
    match parsed {
        Some(duration) => Ok(duration),
        None => fail(name, format_args!("option \"tolerance\" must be {DURATION}")),
    }
}

/// The file as if `given` stood in it.
fn overlay(
    name: &str,
    text: &str,
    given: &Map<String, Value>,
    offered: &Offered,
) -> Result<File, SchemeError> {
    let mut tree: toml::Value = toml::from_str(text).map_err(|error| SchemeError(error.to_string()))?;
    for (option, value) in given {
        let Some(table) = offered.get(option) else { return unknown(name, option, offered) };
        let value = convert(value, table.kind).or_else(|allowed| {
            fail(name, format_args!("option {option:?} ({}) must be {allowed}", table.about))
        })?;
        let also = table.also.iter().map(|(at, value)| (at, value.clone()));
        for (at, value) in std::iter::once((&table.sets, value)).chain(also) {
            place(&mut tree, at, value).or_else(|()| {
                fail(name, format_args!("option {option:?} sets no place of the file: {at:?}"))
            })?;
        }
    }
    tree.try_into()
        .map_err(|error: toml::de::Error| SchemeError(format!("scheme {name:?}: {}", error.message())))
}

fn unknown<T>(name: &str, option: &str, offered: &Offered) -> Result<T, SchemeError> {
    let known: Vec<&str> = offered.keys().map(String::as_str).chain(["replay"]).collect();
    fail(name, format_args!("has no option {option:?} ({})", among(option, &known)))
}

/// A problem at a place that an option sets is told by the name that the user knows.
fn explain<T>(name: &str, problem: &Problem, offered: &Offered) -> Result<T, SchemeError> {
    match offered.iter().find(|(_, table)| table.sets == problem.place) {
        Some((option, _)) => fail(name, format_args!("option {option:?}: {}", problem.message)),
        None => fail(name, format_args!("{problem}")),
    }
}

fn fail<T>(name: &str, what: fmt::Arguments<'_>) -> Result<T, SchemeError> {
    Err(SchemeError(format!("scheme {name:?} {what}")))
}

const DURATION: &str = "a duration: whole seconds (300) or a text with a unit (\"5m\")";

/// The error is what is allowed.
fn convert(value: &Value, kind: OptionKind) -> Result<toml::Value, &'static str> {
    match (kind, value) {
        (OptionKind::Text, Value::String(text)) if !text.is_empty() => Ok(text.as_str().into()),
        (OptionKind::Text, _) => Err("a text that is not empty"),
        (OptionKind::Switch, Value::Bool(on)) => Ok((*on).into()),
        (OptionKind::Switch, _) => Err("true or false"),
        (OptionKind::Duration, Value::String(text)) => {
            hetuflow_core::duration::parse(text).map(|_| text.as_str().into()).map_err(|_| DURATION)
        }
        (OptionKind::Duration, Value::Number(number)) => {
            number.as_i64().filter(|seconds| *seconds >= 0).map(Into::into).ok_or(DURATION)
        }
        (OptionKind::Duration, _) => Err(DURATION),
    }
}

/// Sets `path` in the tree and makes the tables on the way to it.
fn place(tree: &mut toml::Value, path: &str, value: toml::Value) -> Result<(), ()> {
    let mut at = tree;
    for key in path.split('.') {
        at = match at {
            toml::Value::Array(items) => key.parse().ok().and_then(|n: usize| items.get_mut(n)).ok_or(())?,
            toml::Value::Table(table) => table.entry(key).or_insert_with(|| toml::Table::new().into()),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => return Err(()),
        };
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(scheme: &str, options: &Value, expected: Result<(), &str>) {
        let options = options.as_object().expect("a table").clone();
        let result = Scheme::builtin(scheme, &options).map(drop).map_err(|error| error.to_string());
        assert_eq!(
            result.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|e| *e),
            "{scheme} {options:?}"
        );
    }

    #[test]
    fn options_that_fit() {
        check("github", &json!({}), Ok(()));
        check("hmac", &json!({"header": "X-Signature"}), Ok(()));
        check("hmac", &json!({"header": "X-S", "algorithm": "hmac-sha1", "legacy": true}), Ok(()));
        let timestamp =
            json!({"header": "X-S", "timestamp": "X-T", "message": "{timestamp}.{body}", "tolerance": 60});
        check("hmac", &timestamp, Ok(()));
        check("hmac", &json!({"header": "X-S", "dedupe": "message", "separator": ","}), Ok(()));
        check("stripe", &json!({"tolerance": "10m", "replay": "strict"}), Ok(()));
        check("square", &json!({"url": "https://example.com/hooks/square"}), Ok(()));
    }

    #[test]
    fn every_option_reaches_its_place() {
        let given = json!({
            "header": "X-S", "prefix": "v1=", "separator": ",", "algorithm": "hmac-sha1", "legacy": true,
            "encoding": "base64", "key_encoding": "hex", "message": "{id}.{timestamp}.{body}", "timestamp": "X-T",
            "timestamp_unit": "ms", "tolerance": "1m", "delivery_id": "X-I", "event_type": "X-E", "dedupe": "never",
        });
        let (_, text) = crate::scheme::BUILTIN.iter().find(|(name, _)| *name == "hmac").expect("hmac");
        let offered = File::parse("hmac", text).expect("a scheme file").options;
        assert!(
            offered.keys().eq(given.as_object().expect("a table").keys()),
            "options without a value here"
        );

        let scheme = Scheme::builtin("hmac", given.as_object().expect("a table")).expect("good options");
        let shown = format!("{scheme:?}");
        for place in [
            "places: [Place { at: Header(\"x-s\")",
            "prefix: \"v1=\"",
            "separator: Some(\",\")",
            "Hmac(Sha1)",
            "encoding: Base64",
            "encoding: Some(Hex)",
            "Value(Id)",
            "Header(\"x-t\")",
            "Milliseconds",
            "tolerance: 60s",
            "Header(\"x-i\")",
            "Header(\"x-e\")",
            "dedupe: []",
        ] {
            assert!(shown.contains(place), "{place} is not in {shown}");
        }
    }

    #[test]
    fn options_that_do_not_fit_are_told_in_a_sentence() {
        let no = |scheme: &str, options: Value, expected: &str| check(scheme, &options, Err(expected));
        let hmac = |mut options: Value, expected: &str| {
            options["header"] = "X-Signature".into();
            check("hmac", &options, Err(&format!("scheme \"hmac\" {expected}")));
        };
        no(
            "gihub",
            json!({}),
            &format!(
                "there is no scheme \"gihub\" (did you mean \"github\"? Allowed: {})",
                Scheme::names().join(", ")
            ),
        );
        no(
            "github",
            json!({"url": "https://a.example/"}),
            "scheme \"github\" does not sign addresses: take the option \"url\" out",
        );
        no(
            "github",
            json!({"tolerance": 5}),
            "scheme \"github\" has no timestamp: take the option \"tolerance\" out",
        );
        no(
            "github",
            json!({"replay": "loose"}),
            "scheme \"github\" replay: \"loose\" is not known (allowed: strict)",
        );
        no(
            "square",
            json!({"url": "example.com"}),
            "scheme \"square\" url: it must be the hook's address as the provider calls it, such as \
             \"https://example.com/hooks/name\", without a query",
        );
        no("github", json!({"header": "X"}), "scheme \"github\" has no option \"header\" (allowed: replay)");
        no(
            "hmac",
            json!({}),
            "scheme \"hmac\" needs the option \"header\": the header that holds the signature",
        );
        no(
            "hmac",
            json!({"header": "X Signature"}),
            "scheme \"hmac\" option \"header\": \"X Signature\" cannot be the name of a header",
        );
        no(
            "hmac",
            json!({"header": 7}),
            "scheme \"hmac\" option \"header\" (the header that holds the signature) must be a text that is not empty",
        );
        hmac(
            json!({"algorithm": "hmac-sha257"}),
            "option \"algorithm\": \"hmac-sha257\" is not known (did you mean \"hmac-sha256\"? \
             Allowed: equality, hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512, ed25519, \
             ecdsa-p256, rsa-sha1, rsa-sha256, rsa-sha384, rsa-sha512, jwt)",
        );
        hmac(
            json!({"algorithm": "hmac-sha1"}),
            "option \"algorithm\": SHA-1 is for old senders only: add legacy = true to use it",
        );
        hmac(json!({"legacy": "yes"}), "option \"legacy\" (allows hmac-sha1) must be true or false");
        hmac(
            json!({"encoding": "hexx"}),
            "option \"encoding\": \"hexx\" is not known (did you mean \"hex\"? Allowed: text, hex, base64, base64url)",
        );
        hmac(
            json!({"message": "{id}.{body}"}),
            "option \"delivery_id\": the message holds {id}: name its header",
        );
        hmac(
            json!({"timestamp": "X-Time"}),
            "option \"message\": it does not hold {timestamp}, and an unsigned timestamp proves nothing",
        );
        hmac(
            json!({"message": "{timestamp}.{body}"}),
            "option \"timestamp\": the message holds {timestamp}: name its header",
        );
        hmac(json!({"tolerance": "1m"}), "option \"timestamp\": name the header");
        for tolerance in [json!("soon"), json!(-1), json!(true)] {
            hmac(
                json!({"tolerance": tolerance}),
                "option \"tolerance\" (how far the timestamp may be from now, to either side) must be \
                 a duration: whole seconds (300) or a text with a unit (\"5m\")",
            );
        }
        hmac(
            json!({"dedupe": "id"}),
            "option \"dedupe\": \"id\" is not known (allowed: delivery_id, message, never)",
        );
    }
}
