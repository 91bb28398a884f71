//! The job of `bench webhook`: says in one line when its event was sent and when it started, and ends.
//! `hetuflow-bench-job FILE SENT`, the same program for every contender.

use std::{fs::OpenOptions, io::Write, process::ExitCode};

use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let time = clock_gettime(ClockId::Monotonic);
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(sent)) = (args.next(), args.next()) else { return ExitCode::from(2) };
    let line = format!("{sent} {}{:09}\n", time.tv_sec, time.tv_nsec);
    let written =
        OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(line.as_bytes()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
