//! Where a request holds a value: in a header, or in its JSON body by an RFC 6901 pointer.
//!
//! A body is looked into only after its signature matched, in one pass that keeps nothing but the value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A longer id or event type is nobody's.
pub(crate) const MAX_VALUE: usize = 255;

/// Whether a value may go on as an id or event type: these end up in keys, columns and terminals.
pub(crate) fn is_plain(value: &str) -> bool {
    value.len() <= MAX_VALUE && !value.chars().any(char::is_control)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The header's name in lower case.
    Header(String),
    Body(Pointer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tokens = text
            .strip_prefix('/')
            .ok_or_else(|| format!("{text:?} is no JSON pointer: write it like \"/event/type\""))?;
        Ok(Self(tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// The text or number that it points at; `None` for anything else, and for a body that is not JSON.
    pub(crate) fn find(&self, body: &[u8]) -> Option<String> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let found = At(&self.0).deserialize(&mut json).ok()?;
        json.end().ok()?;
        found.filter(|value| !value.is_empty() && is_plain(value))
    }
}

/// Reads the value below a path and skips the rest of the document.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At<'_> {
    fn here(&self, value: &impl ToString) -> Option<String> {
        self.0.is_empty().then(|| value.to_string())
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.here(&text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.here(&number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.here(&number))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                // Of a key that comes twice the last one counts, as it does for conditions and templates.
                Some((first, rest)) if *first == key => found = map.next_value_seed(At(rest))?,
                Some(_) | None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let wanted =
            self.0.split_first().and_then(|(first, rest)| Some((first.parse::<usize>().ok()?, rest)));
        let mut found = None;
        for index in 0.. {
            let more = match wanted {
                Some((place, rest)) if place == index => {
                    list.next_element_seed(At(rest))?.map(|value| found = value)
                }
                Some(_) | None => list.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        let check = |pointer: &str, body: &str, expected: Option<&str>| {
            let pointer = Pointer::parse(pointer).expect("a pointer");
            assert_eq!(pointer.find(body.as_bytes()).as_deref(), expected, "{pointer:?} in {body}");
        };
        check("/type", r#"{"type": "push"}"#, Some("push"));
        check("/type", r#"{"a": {"type": "no"}, "type": 7, "b": [1, {}]}"#, Some("7"));
        check("/event/type", r#"{"event": {"id": 1, "type": "a"}}"#, Some("a"));
        check("/items/1/id", r#"{"items": [{"id": "x"}, {"id": "y"}, {"id": "z"}]}"#, Some("y"));
        check("/a~1b/~0", r#"{"a/b": {"~": "deep"}}"#, Some("deep"));
        check("/type", r#"{"type": "first", "type": "last"}"#, Some("last"));
        check("/type", r#"{"type": {"name": "no"}}"#, None);
        check("/type", r#"{"type": null}"#, None);
        check("/type", r#"{"type": ""}"#, None);
        check("/type", r#"{"type": "a\u0000b"}"#, None);
        check("/type", r#"{"type": "\u001b[2J"}"#, None);
        check("/type", r#"{"type": "push"} {}"#, None);
        check("/type", r#"{"type": "push""#, None);
        check("/type", "[]", None);
        check("/type", "type=push", None);
        check("/type", "", None);
        check("/type", &format!(r#"{{"type": "{}"}}"#, "x".repeat(MAX_VALUE + 1)), None);
        check("/type", &format!(r#"{{"x": {}, "type": "t"}}"#, "[".repeat(100_000)), None);
        assert!(Pointer::parse("type").is_err());
    }
}
