//! `hetuflow`: runs everything on one machine (`dev`, `up`) and is every operator's verb.
//!
//! Operators' commands talk to a server's API and nothing else; `dev` and `up` start server and agent
//! in this process. Nothing here decides anything about events or tasks.

mod args;
mod client;
mod commands;
mod dev;
mod error;
mod log;
mod machine;
mod output;
mod up;

use std::process::ExitCode;

use args::{Cli, Verb};
use clap::Parser as _;
use client::Client;
use error::CliError;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.output, cli.color);
    let runtime = match hetuflow_server::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(output, &CliError::Io("cannot start the runtime".to_owned(), error)),
    };
    match runtime.block_on(Box::pin(run(cli, output))) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output went away: what it wanted, it has.
        Err(CliError::Io(_, error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(output, &error),
    }
}

fn fail(output: Output, error: &CliError) -> ExitCode {
    output.error(error);
    ExitCode::from(error.exit_code())
}

async fn run(cli: Cli, output: Output) -> Result<(), CliError> {
    let client = || Client::new(&cli.server);
    match cli.verb {
        Verb::Dev(args) => dev::run(args, output).await,
        Verb::Up(args) => up::run(args, output).await,
        Verb::Trigger(verb) => commands::trigger::run(verb, &client()?, output).await,
        Verb::Event(verb) => commands::event::run(verb, &client()?, output).await,
        Verb::Task(verb) => commands::task::run(verb, &client()?, output).await,
        Verb::Job(verb) => commands::job::run(verb, &client()?, output).await,
        Verb::Schedule(verb) => commands::schedule::run(verb, &client()?, output).await,
        Verb::Server(verb) => commands::server::run(verb, &client()?, output).await,
        Verb::Agent(verb) => commands::agent::run(verb, &client()?, output).await,
        Verb::Doctor(args) => commands::doctor::run(args, output).await,
        Verb::Health => commands::health::run(&client()?, output).await,
        Verb::Signature(verb) => commands::signature::run(verb, output),
        Verb::Config(verb) => commands::config::run(verb, output),
        Verb::Completions { shell } => commands::completions::run(shell),
    }
}
