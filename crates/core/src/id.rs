//! Typed identifiers. Every id that hetuflow makes is a `UUIDv7`: it sorts by the millisecond it was
//! made in, and that millisecond can be read back, which lets a lookup by id find its partition.
//! Time is an argument, because core reads no clock.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that carries the millisecond of `time` and is otherwise random.
            #[must_use]
            pub fn at(time: Timestamp) -> Self {
                Self(v7(time))
            }

            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The millisecond that the id carries; `None` for an id that hetuflow did not make.
            #[must_use]
            pub fn time(self) -> Option<Timestamp> {
                let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
                Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// Something that happened.
    EventId
    /// One planned execution of a job.
    TaskId
    /// One attempt of a task on one agent.
    InstanceId
    /// By which the sender of an event asks what became of it. Of the event's millisecond, and otherwise nothing like its id.
    StatusToken
    JobId
    ScheduleId
    /// One start of a server process.
    ServerId
    /// One life of an agent's journal. An agent whose journal was wiped names another one.
    JournalId
}

fn v7(time: Timestamp) -> Uuid {
    // Ids made before 1970 would only come from a clock that is not set; they clamp to the epoch.
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: use 1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit")]
pub struct NameError {
    pub text: String,
}

macro_rules! name_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if is_name(&text) { Ok(Self(text)) } else { Err(NameError { text }) }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

name_id! {
    /// The name by which an agent is known for as long as it keeps its state directory.
    AgentId
    /// The tenant: part of every key.
    Namespace
    /// A trigger's name, and of the job that it declares.
    TriggerName
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_millisecond() {
        let time: Timestamp = "2026-11-21T10:00:00.123Z".parse().expect("a timestamp");
        assert_eq!(EventId::at(time).time(), Some(time));
        assert_ne!(EventId::at(time), EventId::at(time));
    }

    #[test]
    fn names_are_one_path_segment() {
        let check = |text: &str, expected: bool| assert_eq!(AgentId::new(text).is_ok(), expected, "{text:?}");
        check("web-1.example_x", true);
        check("", false);
        check("-a", false);
        check("a/b", false);
        check("ä", false);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
    }
}
