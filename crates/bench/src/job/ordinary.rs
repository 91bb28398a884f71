//! The job as an ordinary program: with the dynamic linker, the C library and the runtime that others have.
//! `hetuflow-bench-ordinary FILE SENT`, like `hetuflow-bench-job`.

use std::{fs::OpenOptions, io::Write, process::ExitCode};

pub(crate) fn main() -> ExitCode {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(sent)) = (args.next(), args.next()) else { return ExitCode::from(2) };
    let line = format!("{sent} {}{:09}\n", time.tv_sec, time.tv_nsec);
    let written =
        OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(line.as_bytes()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
