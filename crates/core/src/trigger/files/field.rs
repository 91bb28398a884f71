//! What of a file a trigger sorts, groups and recognises by.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FileField {
    /// When it became complete.
    #[default]
    Arrival,
    Path,
    /// The path, where `2` comes before `10`.
    Natural,
    Name,
    Directory,
    Size,
    /// Its own time of change.
    Mtime,
    /// Inode, time of birth, size and time of change together: one version of one file.
    Identity,
    /// Of its bytes.
    Sha256,
    /// A named group of `capture`.
    Capture(String),
}

const CAPTURE: &str = "capture:";

impl FileField {
    const PLAIN: [Self; 9] = [
        Self::Arrival,
        Self::Path,
        Self::Natural,
        Self::Name,
        Self::Directory,
        Self::Size,
        Self::Mtime,
        Self::Identity,
        Self::Sha256,
    ];

    /// As [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix(CAPTURE) {
            return (!name.is_empty()).then(|| Self::Capture(name.to_owned()));
        }
        Self::PLAIN.into_iter().find(|field| field.to_string() == text)
    }
}

impl fmt::Display for FileField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arrival => "arrival",
            Self::Path => "path",
            Self::Natural => "natural",
            Self::Name => "name",
            Self::Directory => "directory",
            Self::Size => "size",
            Self::Mtime => "mtime",
            Self::Identity => "identity",
            Self::Sha256 => "sha256",
            Self::Capture(name) => return write!(f, "{CAPTURE}{name}"),
        })
    }
}

impl From<FileField> for String {
    fn from(field: FileField) -> Self {
        field.to_string()
    }
}

impl TryFrom<String> for FileField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is nothing of a file"))
    }
}
