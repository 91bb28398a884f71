//! Converts for a condition only what it looks at: a whole body of 32 KiB takes milliseconds, the
//! few fields of a usual condition microseconds.

use std::{collections::HashMap, sync::Arc};

use cel::{Value, objects::Key};
use serde_json::Value as Json;

use crate::matching::Wanted;

/// Values that one judgement converts, at most.
const MAX_VALUES: usize = 100_000;

pub(super) struct TooMany;

/// Shows every value that is wanted.
pub(super) fn show<'v>(wanted: &Wanted, json: &'v Json, show: &mut impl FnMut(&'v Json)) {
    visit(json, Some(wanted), show);
}

pub(super) fn converted(wanted: &Wanted, json: &Json) -> Result<Value, TooMany> {
    let mut left = MAX_VALUES;
    convert(json, Some(wanted), &mut left)
}

/// `wanted` is `None` below a part that is wanted whole.
fn visit<'v>(json: &'v Json, wanted: Option<&Wanted>, show: &mut impl FnMut(&'v Json)) {
    let wanted = wanted.and_then(Wanted::fields);
    show(json);
    match (json, wanted) {
        (Json::Array(list), _) => list.iter().for_each(|element| visit(element, None, show)),
        (Json::Object(object), None) => object.values().for_each(|value| visit(value, None, show)),
        (Json::Object(object), Some(wanted)) => {
            let parts = wanted.iter().filter_map(|(name, below)| Some((object.get(name)?, below)));
            parts.for_each(|(value, below)| visit(value, Some(below), show));
        }
        (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_), _) => {}
    }
}

/// `wanted` is `None` below a part that is wanted whole.
fn convert(json: &Json, wanted: Option<&Wanted>, left: &mut usize) -> Result<Value, TooMany> {
    let wanted = wanted.and_then(Wanted::fields);
    *left = left.checked_sub(1).ok_or(TooMany)?;
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(boolean) => Value::Bool(*boolean),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(list) => {
            let list =
                list.iter().map(|element| convert(element, None, left)).collect::<Result<Vec<_>, _>>()?;
            Value::List(Arc::new(list))
        }
        Json::Object(object) => {
            let mut fields = HashMap::new();
            let mut add = |name: &str, value: &Json, below: Option<&Wanted>| {
                let value = convert(value, below, left)?;
                fields.insert(Key::String(Arc::new(name.to_owned())), value);
                Ok(())
            };
            match wanted {
                None => object.iter().try_for_each(|(name, value)| add(name, value, None))?,
                Some(wanted) => {
                    let mut parts =
                        wanted.iter().filter_map(|(name, below)| Some((name, object.get(name)?, below)));
                    parts.try_for_each(|(name, value, below)| add(name, value, Some(below)))?;
                }
            }
            Value::Map(cel::objects::Map { map: Arc::new(fields) })
        }
    })
}
