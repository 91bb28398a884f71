//! Bodies: forms are what another encoder wrote, multipart is never looked into, and JSON is what another parser reads,
//! as far as the limits allow and no further.

use arbitrary::{Result, Unstructured};
use hetuflow_core::matching::Body;
use serde_json::{Map, Value};

use crate::mutate;

const FORM: &str = "application/x-www-form-urlencoded";
/// As the limits have it.
const MAX_DEPTH: usize = 64;
const TEXTS: [&str; 8] = ["", "a", "a b", "é", "\0", "&=+%", "payload", "\u{1f680}"];

pub(super) fn form(u: &mut Unstructured<'_>) -> Result<()> {
    if u.ratio(1, 2)? { written(u) } else { broken(u) }
}

/// What another encoder wrote is read as it was; of what comes twice the last.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let mut written = form_urlencoded::Serializer::new(String::new());
    let mut expected = Map::new();
    for _ in 0..u.int_in_range(1..=8)? {
        let (key, value) = (*u.choose(&TEXTS)?, *u.choose(&TEXTS)?);
        written.append_pair(key, value);
        expected.insert(key.to_owned(), value.into());
    }
    let written = written.finish();
    let found = Body::parse(Some(FORM), written.as_bytes());
    assert_eq!(found, Ok(Body::Form(Value::Object(expected))), "{written}");
    Ok(())
}

fn broken(u: &mut Unstructured<'_>) -> Result<()> {
    let good =
        "payload=%7B%22ref%22%3A%22main%22%7D&b=x+y%21&--b\r\nContent-Disposition: form-data; name=\"f\"";
    let mut bytes = good.as_bytes().to_vec();
    mutate::bytes(u, &mut bytes)?;
    match Body::parse(Some(FORM), &bytes) {
        Ok(Body::Form(value)) => assert!(value.is_object() || value.is_array(), "{value}"),
        Ok(Body::Empty) => assert!(bytes.is_empty()),
        // Its payload looks like JSON and is none.
        Err(reason) => assert!(reason.contains("payload"), "{reason}"),
        Ok(other) => panic!("a form is {other:?}"),
    }
    for multipart in
        ["multipart/form-data; boundary=b", "multipart/form-data", "Multipart/Mixed;boundary=\"b\""]
    {
        let expected = match std::str::from_utf8(&bytes) {
            _ if bytes.is_empty() => Body::Empty,
            Ok(text) => Body::Text(text.to_owned()),
            Err(_) => Body::Bytes,
        };
        assert_eq!(Body::parse(Some(multipart), &bytes), Ok(expected));
    }
    Ok(())
}

pub(super) fn json(u: &mut Unstructured<'_>) -> Result<()> {
    let depth = u.int_in_range(0..=MAX_DEPTH + 4)?;
    let mut text = value(u, depth)?.to_string().into_bytes();
    if u.ratio(1, 2)? {
        mutate::bytes(u, &mut text)?;
    }
    let found = Body::parse(Some("application/json"), &text);
    let oracle = serde_json::from_slice::<Value>(&text);
    let shown = || String::from_utf8_lossy(&text).into_owned();
    match (found, oracle) {
        (Ok(Body::Json(found)), Ok(expected)) => {
            assert_eq!(found, expected, "{}", shown());
            assert!(depth_of(&found) <= MAX_DEPTH, "it nests too deep: {}", shown());
        }
        (Ok(Body::Empty), _) => assert!(text.is_empty()),
        (Err(reason), Ok(expected)) => {
            assert!(depth_of(&expected) > MAX_DEPTH, "{reason}: {}", shown());
        }
        (Err(_), Err(_)) => {}
        (Ok(found), oracle) => panic!("{}: {found:?}, and another parser says {oracle:?}", shown()),
    }
    Ok(())
}

/// Nested so deep, with other things beside.
fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let mut inner = leaf(u)?;
    for _ in 0..depth {
        inner = if u.ratio(1, 2)? {
            Value::Array(vec![leaf(u)?, inner])
        } else {
            let mut object = Map::new();
            object.insert((*u.choose(&TEXTS)?).to_owned(), leaf(u)?);
            object.insert((*u.choose(&TEXTS)?).to_owned(), inner);
            Value::Object(object)
        };
    }
    Ok(inner)
}

fn leaf(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=5)? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => u.arbitrary::<i64>()?.into(),
        3 => u.arbitrary::<f64>()?.into(),
        4 => u.arbitrary::<u64>()?.into(),
        _ => (*u.choose(&TEXTS)?).into(),
    })
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth_of).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
