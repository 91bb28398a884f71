//! `hetuflow completions SHELL`

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::{args::Cli, error::CliError};

pub(crate) fn run(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "hetuflow", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}
