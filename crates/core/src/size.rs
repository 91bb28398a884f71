//! Numbers of bytes as users write them: `65536`, `"64KiB"`, `"1MB"`.

use serde::{Deserializer, de};

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// The text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: write bytes (65536) or a text with a unit (\"64KiB\", \"1MiB\")")]
pub struct SizeError {
    pub text: String,
}

pub fn parse(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError { text: text.to_owned() };
    let lower = text.trim().to_ascii_lowercase();
    let found = UNITS
        .iter()
        .find_map(|(name, bytes)| Some((lower.strip_suffix(&name.to_ascii_lowercase())?, *bytes)));
    let (number, unit) = found.unwrap_or((&lower, 1));
    number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(error)
}

/// The shortest text that [`parse`] reads back.
#[must_use]
pub fn format(bytes: u64) -> String {
    UNITS[..3]
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// For `#[serde(deserialize_with = "crate::size::deserialize")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(SizeVisitor)
}

/// Likewise, where there may be none: for `#[serde(default, deserialize_with = "crate::size::option")]`.
pub fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserialize(deserializer).map(Some)
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes (65536) or a text with a unit (\"64KiB\", \"5GiB\")")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::custom("a size cannot be negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse(text).ok(), expected, "{text:?}");
        check("65536", Some(65_536));
        check("64KiB", Some(65_536));
        check("1 MiB", Some(1_048_576));
        check("25mb", Some(25_000_000));
        check("7B", Some(7));
        check("-1", None);
        check("KiB", None);
        check("1TiB", None);
        check("99999999999GiB", None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1000, 1024, 1536, 1 << 20, 25 << 20, 3 << 30] {
            assert_eq!(parse(&format(bytes)), Ok(bytes));
        }
    }
}
