//! Durations as users write them: an integer is seconds, a string has a unit (`"250ms"`, `"5m"`,
//! `"1h 30m"`). For `#[serde(with = "crate::duration")]`.

use std::{fmt, time::Duration};

use jiff::SignedDuration;
use serde::{Deserializer, Serializer, de};

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write whole seconds (30) or a text with a unit (\"250ms\", \"5m\", \"1h 30m\")"
)]
pub struct DurationError {
    pub text: String,
}

pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError { text: text.to_owned() };
    // Always 24 hours: what is meant is a length, not a date.
    if let Some(days) = text.trim().strip_suffix('d').and_then(|days| days.trim_end().parse::<u32>().ok()) {
        return Ok(Duration::from_hours(u64::from(days) * 24));
    }
    let signed: SignedDuration = text.trim().parse().map_err(|_| error())?;
    Duration::try_from(signed).map_err(|_| error())
}

/// The shortest text that [`parse`] reads back.
#[must_use]
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Whole seconds as a number, as the API's clients expect; anything finer as a text.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_str(&format(*duration))
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whole seconds (30) or a text with a unit (\"250ms\", \"5m\", \"1h 30m\")")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        u64::try_from(seconds)
            .map(Duration::from_secs)
            .map_err(|_| E::custom("a duration cannot be negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// The same for `Option<Duration>`: `#[serde(default, with = "crate::duration::option")]`.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "super")] Duration);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(
                parse(text).ok().map(|d| u64::try_from(d.as_millis()).expect("fits")),
                expected,
                "{text:?}"
            );
        };
        check("5m", Some(300_000));
        check("1h 30m", Some(5_400_000));
        check("250ms", Some(250));
        check("0s", Some(0));
        check("30d", Some(2_592_000_000));
        check("1.5d", None);
        check("5", None);
        check("-5s", None);
        check("five minutes", None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in [0, 1, 250, 1000, 61_000, 120_000, 3_600_000, 5_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
