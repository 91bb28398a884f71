//! `cargo xtask bench`: what hetuflow costs and how fast it is, beside others, in one run on one machine.
//!
//! Each benchmark is a module that starts real processes, measures, and fills a [`report::Report`]. The processes that
//! are load or stand-ins (simulated agents, senders of webhooks) are this same binary in a [`role`] of its own, so
//! that processor time is attributed to whom it belongs. `docs/benchmarks.md` says what each figure counts. Never part
//! of CI beyond compiling.

#![expect(clippy::cast_precision_loss, reason = "no figure has more than three digits that count")]

mod agents;
mod child;
mod claim;
mod database;
mod debian;
mod engine;
mod files;
mod ingress;
mod life;
mod machine;
mod monotonic;
mod payload;
mod processor;
mod program;
mod report;
mod role;
mod schedules;
mod server;
mod spread;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Benchmarks of the engine", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Whole task lives: throughput, latency, processor time, log written
    Engine(engine::Args),
    /// From a signed delivery to a process that runs, beside Debian's webhook
    Webhook(webhook::Args),
    /// Signed deliveries accepted, beside Debian's webhook and beside a server that only verifies
    Ingress(ingress::Args),
    /// From a file that is closed to a process, beside Debian's incron and an inotifywait loop
    Files(files::Args),
    /// A claim after many tasks, beside an old snapshot and beside the textbook's
    Claim(claim::Args),
    /// Thousands of connected agents: memory and heartbeats
    Agents(agents::Args),
    /// Many schedules that are not due
    Schedules(schedules::Args),
    /// What the benchmarks start beside the product
    #[command(subcommand, hide = true)]
    Role(role::Role),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(Box::pin(async {
        match cli.what {
            What::Engine(args) => engine::run(args).await,
            What::Webhook(args) => webhook::run(args).await,
            What::Ingress(args) => ingress::run(args).await,
            What::Files(args) => files::run(args).await,
            What::Claim(args) => claim::run(args).await,
            What::Agents(args) => agents::run(args).await,
            What::Schedules(args) => schedules::run(args).await,
            What::Role(role) => role::play(role).await,
        }
    }));
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
