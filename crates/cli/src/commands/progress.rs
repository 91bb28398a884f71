//! What a command that changes many things asks first, and how it shows how far it is: a bar on a terminal, a line per
//! stretch elsewhere.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::CliError;

/// Asks on a terminal; elsewhere nobody could answer.
pub(super) fn confirm(what: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("would {what}; say --yes to do it")));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{what}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("nothing was done".to_owned())),
    }
}

/// How far a walk is, on standard error.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { total: u64 },
}

impl Progress {
    pub(super) fn new(total: u64, things: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { total };
        }
        let bar = ProgressBar::new(total);
        let template = format!("{{bar:40}} {{pos}} of {{len}} {things}, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    pub(super) fn at(&self, seen: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(seen),
            Self::Lines { total } => say(&format!("{seen} of {total}")),
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    pub(super) fn stopped(&self, text: &str) {
        self.finish();
        say(text);
    }
}

pub(super) fn say(line: &str) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
