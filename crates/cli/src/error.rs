//! How a command fails: what is printed, and the exit code.

use std::path::PathBuf;

use hetuflow_core::trigger::Problems;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(
        "cannot reach the server at {url}: {reason}\nstart one with `hetuflow dev`, or say where it is with {option}"
    )]
    Unreachable { url: String, reason: String, option: &'static str },
    /// The server's own words (RFC 9457).
    #[error("{title}{}", .detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused { status: u16, title: String, detail: Option<String> },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Usage(String),
    /// Problems of files, already printed or to be printed one per line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problems>),
    #[error("{0}")]
    Failed(String),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
}

impl CliError {
    /// As `hetuflow --help` lists them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Invalid(_) => 3,
            Self::NotFound(_) => 4,
            Self::Unreachable { .. } => 7,
            Self::Refused { status, .. } => match status {
                400 => 2,
                422 => 3,
                401 | 403 => 5,
                404 => 4,
                409 => 6,
                _ => 1,
            },
            Self::Failed(_) | Self::Read { .. } | Self::Io(..) => 1,
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Io("cannot write".to_owned(), error)
    }
}
