//! The agent as a whole: real processes, real signals, and a small server that says what each test
//! tells it to.

mod crash;
mod files;
mod hang;
mod link;
mod runs;
mod world;
