//! The proof harness: real binaries under load, killed, frozen, cut off and restarted at random, and a judge that looks
//! at what senders, jobs and the database say afterwards. `cargo xtask chaos` builds what it needs and runs it;
//! `docs/reliability/README.md` says what it promises. Nothing of the product depends on this crate.

mod args;
mod cable;
mod check;
mod effect;
mod files;
mod generator;
mod history;
mod jobs;
mod node;
mod plan;
mod points;
mod postgres;
mod random;
mod report;
mod state;
mod supervisor;
mod world;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    // Started some hundred times a second: no argument parser, no runtime.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "effect") {
        return effect::run();
    }
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "witness") {
        return files::witness::run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(Cli::parse())));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => report::runs(&args).await,
        Command::Check { folder } => report::check(&folder),
        Command::Files(args) => files::run(args).await,
        Command::Effect => Ok(effect::run()),
    }
}
