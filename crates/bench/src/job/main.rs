//! The job of `bench webhook` and `bench files`: says in one line when its event was sent and when it started, and ends.
//! `hetuflow-bench-job FILE SENT`, the same program for every contender.

#![cfg_attr(bare, no_main)]
// The compiler must not put calls of a C library there: the bare program has none.
#![cfg_attr(bare, no_builtins)]

#[cfg(bare)]
mod bare;

#[cfg(not(bare))]
mod ordinary;

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    ordinary::main()
}
