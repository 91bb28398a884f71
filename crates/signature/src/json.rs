//! Looks one value up in JSON by an RFC 6901 pointer, in one pass that keeps nothing else of the document.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tokens = text
            .strip_prefix('/')
            .ok_or_else(|| format!("{text:?} is no JSON pointer: write it like \"/event/type\""))?;
        let tokens = tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text: text.to_owned(), tokens })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// What it points at, as written; `None` where nothing is, and in what is not JSON.
    pub(crate) fn raw<'j>(&self, json: &'j [u8]) -> Option<&'j RawValue> {
        let mut document = serde_json::Deserializer::from_slice(json);
        let found = At(&self.tokens).deserialize(&mut document).ok()?;
        document.end().ok()?;
        found
    }

    /// The text, number or truth value that it points at. A number is what the sender wrote.
    pub(crate) fn text<'j>(&self, json: &'j [u8]) -> Option<Cow<'j, str>> {
        let raw = self.raw(json)?.get();
        match raw.as_bytes().first()? {
            b'"' => Text::deserialize(&mut serde_json::Deserializer::from_str(raw)).ok().map(|text| text.0),
            b'-' | b'0'..=b'9' | b't' | b'f' => Some(Cow::Borrowed(raw)),
            _ => None,
        }
    }

    /// The items of the list that it points at.
    pub(crate) fn items<'j>(&self, json: &'j [u8]) -> Option<Vec<&'j RawValue>> {
        serde_json::from_str(self.raw(json)?.get()).ok()
    }
}

/// Borrowed where nothing in it is escaped.
struct Text<'j>(Cow<'j, str>);

impl<'de: 'j, 'j> Deserialize<'de> for Text<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrow).map(Text)
    }
}

/// Reads the value below a path and skips the rest of the document.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
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
            assert_eq!(pointer.text(body.as_bytes()).as_deref(), expected, "{pointer:?} in {body}");
        };
        check("/type", r#"{"type": "push"}"#, Some("push"));
        check("/type", r#"{"a": {"type": "no"}, "type": 7, "b": [1, {}]}"#, Some("7"));
        check("/type", r#"{"type": -1.50 }"#, Some("-1.50"));
        check("/type", r#"{"type": true}"#, Some("true"));
        check("/event/type", r#"{"event": {"id": 1, "type": "a"}}"#, Some("a"));
        check("/items/1/id", r#"{"items": [{"id": "x"}, {"id": "y"}, {"id": "z"}]}"#, Some("y"));
        check("/a~1b/~0", r#"{"a/b": {"~": "deep"}}"#, Some("deep"));
        check("/type", r#"{"type": "first", "type": "last"}"#, Some("last"));
        check("/type", r#"{"type": "a\u0000\n\"b"}"#, Some("a\0\n\"b"));
        check("/type", r#"{"type": ""}"#, Some(""));
        check("/type", r#"{"type": {"name": "no"}}"#, None);
        check("/type", r#"{"type": null}"#, None);
        check("/type", r#"{"type": "\ud800"}"#, None);
        check("/type", r#"{"type": "push"} {}"#, None);
        check("/type", r#"{"type": "push""#, None);
        check("/type", "[]", None);
        check("/type", "type=push", None);
        check("/type", "", None);
        check("/type", &format!(r#"{{"x": {}, "type": "t"}}"#, "[".repeat(100_000)), None);
        assert!(Pointer::parse("type").is_err());
    }

    #[test]
    fn lists() {
        let list = Pointer::parse("/value").expect("a pointer");
        let items = list.items(br#"{"value": [{"a": 1}, 2]}"#).expect("a list");
        assert_eq!(items.iter().map(|item| item.get()).collect::<Vec<_>>(), [r#"{"a": 1}"#, "2"]);
        assert!(list.items(br#"{"value": {}}"#).is_none());
        assert!(list.items(b"{}").is_none());
    }
}
