//! Which parts of a body somebody looks at. What nobody looks at is checked to be JSON, and otherwise passed over: of a
//! delivery of 7 KiB triggers usually read a field or two, and to build the rest took a third of what its receipt cost.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Path, Step};

/// All of a value, or only some fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    whole: bool,
    fields: BTreeMap<String, Wanted>,
}

impl Wanted {
    #[must_use]
    pub fn whole() -> Self {
        Self { whole: true, fields: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, path: &Path) {
        let mut wanted = self;
        for step in &path.steps {
            match step {
                Step::Field(name) => wanted = wanted.fields.entry(name.clone()).or_default(),
                // Lists are taken whole.
                Step::Index(_) => break,
            }
        }
        wanted.whole = true;
    }

    /// What either looks at.
    pub fn merge(&mut self, other: &Self) {
        self.whole |= other.whole;
        for (name, wanted) in &other.fields {
            self.fields.entry(name.clone()).or_default().merge(wanted);
        }
    }

    /// The fields that are looked at; `None`: all of it.
    pub(crate) fn fields(&self) -> Option<&BTreeMap<String, Self>> {
        (!self.whole).then_some(&self.fields)
    }

    /// The wanted parts of a JSON text. Lists and objects that only lead to others hold nothing else.
    pub(super) fn read(&self, text: &str) -> Result<Value, serde_json::Error> {
        if self.whole {
            return serde_json::from_str(text);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let value = self.deserialize(&mut json)?;
        json.end().map(|()| value)
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.whole {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Wanted {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// Of a field that comes twice the last one counts, as everywhere.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key_seed(Among(&self.fields))? {
            match name {
                Some((name, wanted)) => {
                    let value = map.next_value_seed(wanted)?;
                    object.insert(name.to_owned(), value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }
}

/// The name of a field, if it is one of these; no other is kept.
struct Among<'w>(&'w BTreeMap<String, Wanted>);

impl<'de, 'w> DeserializeSeed<'de> for Among<'w> {
    type Value = Option<(&'w str, &'w Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Among<'w> {
    type Value = Option<(&'w str, &'w Wanted)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get_key_value(name).map(|(name, wanted)| (name.as_str(), wanted)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn wanted(paths: &[&str]) -> Wanted {
        let mut wanted = Wanted::default();
        for path in paths {
            let steps = path.split('.').filter(|name| !name.is_empty());
            let steps = steps.map(|name| Step::Field(name.to_owned())).collect();
            wanted.add(&Path { root: "body".to_owned(), steps });
        }
        wanted
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let check = |paths: &[&str], text: &str, expected: &Value| {
            assert_eq!(&wanted(paths).read(text).expect("JSON"), expected, "{paths:?} of {text}");
        };
        let text = r#"{"ref": "main", "n": [1, {"a": 2}], "who": {"name": "mona", "id": 7, "more": {}}}"#;
        check(&[], text, &json!({}));
        check(&["ref"], text, &json!({"ref": "main"}));
        check(&["n"], text, &json!({"n": [1, {"a": 2}]}));
        check(&["n.a"], text, &json!({"n": []}));
        check(&["who.id", "who.none"], text, &json!({"who": {"id": 7}}));
        check(&["who.id", "who"], text, &json!({"who": {"name": "mona", "id": 7, "more": {}}}));
        check(&["ref.x"], text, &json!({"ref": "main"}));
        check(&[""], text, &serde_json::from_str(text).expect("JSON"));
        check(&["a.b"], r#"{"a": {"b": 1}, "a": {"c": 2}}"#, &json!({"a": {}}));
        check(&["a"], r#"{"\u0061": 1.5, "b": -2}"#, &json!({"a": 1.5}));
        check(&["a"], "null", &Value::Null);
        check(&["a"], " [1, 2] ", &json!([]));
    }

    #[test]
    fn what_is_passed_over_must_be_json_too() {
        for text in [r#"{"a": 1, "b": }"#, r#"{"b": "\x"}"#, r#"{"b": [1, 2}"#, r#"{"b": 1} x"#, "", "{"] {
            assert!(wanted(&["a"]).read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn merging_wants_what_either_wants() {
        let mut both = wanted(&["a.b"]);
        both.merge(&wanted(&["a.c", "d"]));
        assert_eq!(both, wanted(&["a.b", "a.c", "d"]));
        both.merge(&Wanted::whole());
        assert_eq!(both.fields(), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whoever looks along a path that was asked for finds what is in the whole.
        #[test]
        fn a_wanted_path_finds_the_same(json in any_json(), names in prop::collection::vec("[a-c]", 0..4)) {
            let whole = json.to_string();
            let pruned = wanted(&[names.join(".").as_str()]).read(&whole).expect("JSON");
            let find = |value: &Value| {
                names.iter().try_fold(value.clone(), |value, name| value.get(name).cloned())
            };
            prop_assert_eq!(find(&pruned), find(&json));
        }
    }
}
