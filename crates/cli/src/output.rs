//! What commands print: tables for people, JSON for scripts; colours only where somebody sees them.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use hetuflow_core::status::Status;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    args::{Color, Format},
    error::CliError,
};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    colors: bool,
}

/// The colour of a word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Busy,
    Faint,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color) -> Self {
        let colors = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { format, colors }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let text =
            serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))?;
        self.line(&text)
    }

    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub(crate) fn line(self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Rows under heads; `empty` is what a newcomer can do when there are none.
    pub(crate) fn table(self, heads: &[&str], rows: Vec<Vec<String>>, empty: &str) -> Result<(), CliError> {
        if rows.is_empty() {
            return self.line(empty);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(heads.iter().map(|head| self.tone(head, Tone::Faint)));
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// `key   value` lines.
    pub(crate) fn fields(self, fields: &[(&str, String)]) -> Result<(), CliError> {
        let width = fields.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 2;
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let padded = format!("{key:width$}");
            self.line(&format!("{}{value}", self.tone(&padded, Tone::Faint)))?;
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "whoever prints holds the output")]
    pub(crate) fn error(self, error: &CliError) {
        // Nobody is left to tell when standard error is gone too.
        let _ = writeln!(io::stderr().lock(), "hetuflow: {error}");
    }

    /// What a person should know beside the result.
    #[expect(clippy::unused_self, reason = "like everything that is printed")]
    pub(crate) fn note(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "hetuflow: {text}");
    }

    pub(crate) fn tone(self, text: &str, tone: Tone) -> String {
        if !self.colors {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Busy => 36,
            Tone::Faint => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    pub(crate) fn status(self, status: Status) -> String {
        let tone = match status {
            Status::Succeeded => Tone::Good,
            Status::Failed | Status::TimedOut | Status::Lost => Tone::Bad,
            Status::Cancelled => Tone::Faint,
            Status::Pending
            | Status::WaitingRetry
            | Status::Locked
            | Status::Dispatched
            | Status::Running => Tone::Busy,
        };
        self.tone(status.name(), tone)
    }
}

/// Local time with its offset, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Text from outside, fit for a terminal: control characters are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// Labels or a selector as `key=value,..`.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
