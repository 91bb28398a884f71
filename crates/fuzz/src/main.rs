//! `cargo xtask fuzz`: what a stranger's bytes go through, tried with bytes that nobody thought of. Each target has
//! an oracle: something that must hold whatever comes, beyond that nothing panics. Runs on a stable compiler; what chance
//! finds is found again by its seed. A few hundred tries of each target belong to the tests.

mod engine;
mod mutate;
mod targets;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::engine::Failure;

#[derive(Parser)]
#[command(name = "cargo xtask fuzz", about = "Try what a stranger's bytes go through")]
struct Args {
    /// signature, scheme, when, form or json; all of them without it
    target: Option<String>,
    /// For how long each is tried
    #[arg(long, default_value = "60s", value_parser = hetuflow_core::duration::parse)]
    time: Duration,
    /// Where to begin: the seed of a failure tries that one first
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when something was found.
fn run(args: &Args) -> anyhow::Result<bool> {
    let targets = targets::all()?;
    let wanted: Vec<_> = targets
        .iter()
        .filter(|target| args.target.as_deref().is_none_or(|name| name == target.name))
        .collect();
    let names = || targets.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(!wanted.is_empty(), "there is no such target; there are {}", names());
    let mut good = true;
    for target in wanted {
        match engine::for_as_long(target, args.seed, args.time) {
            Ok(tries) => eprintln!("{}: {tries} tries, nothing found", target.name),
            Err(Failure { seed, length, what }) => {
                eprintln!("{}: seed {seed}, {length} bytes: {what}", target.name);
                eprintln!("again: cargo xtask fuzz {} --seed {seed} --time 0s", target.name);
                good = false;
            }
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same ones every time.
    const TRIES: u64 = 300;

    #[test]
    fn nothing_is_found_in_a_few_hundred_tries() {
        for target in targets::all().expect("the targets") {
            if let Err(Failure { seed, length, what }) = engine::tries(&target, 0, TRIES) {
                panic!("{}: seed {seed}, {length} bytes: {what}", target.name);
            }
        }
    }

    #[test]
    fn what_fails_is_found_and_made_short() {
        let broken = targets::Target {
            name: "broken",
            attempt: Box::new(|u| {
                let bytes = u.bytes(u.len())?;
                assert!(bytes.len() < 40, "forty bytes are too many");
                Ok(())
            }),
        };
        let failure = engine::tries(&broken, 0, TRIES).expect_err("it fails");
        assert_eq!((failure.length, failure.what.as_str()), (40, "forty bytes are too many"));
    }
}
