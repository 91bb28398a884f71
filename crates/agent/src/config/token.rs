//! Where the join token is: in a file, or (in the environment) itself.

use std::{fmt, path::PathBuf};

use hetuflow_trust::JoinToken;
use serde::{Deserialize, Deserializer, de};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    File(PathBuf),
    Token(JoinToken),
}

impl<'de> Deserialize<'de> for TokenSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InFile {
    file: PathBuf,
}

struct SourceVisitor;

impl<'de> de::Visitor<'de> for SourceVisitor {
    type Value = TokenSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = \"..\" }, or a join token")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenSource, E> {
        text.parse().map(TokenSource::Token).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<TokenSource, A::Error> {
        InFile::deserialize(de::value::MapAccessDeserializer::new(map))
            .map(|InFile { file }| TokenSource::File(file))
    }
}
