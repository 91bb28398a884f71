//! The job of `bench webhook`: says in one line when its event was sent and when it started, and ends.
//! `hetuflow-bench-job FILE SENT`, the same program for every contender.

#![cfg_attr(bare, no_main)]
// The compiler must not put calls of a C library there: the bare program has none.
#![cfg_attr(bare, no_builtins)]

#[cfg(bare)]
mod bare;

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    use std::{fs::OpenOptions, io::Write, process::ExitCode};

    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(sent)) = (args.next(), args.next()) else { return ExitCode::from(2) };
    let line = format!("{sent} {}{:09}\n", time.tv_sec, time.tv_nsec);
    let written =
        OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(line.as_bytes()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
