//! The watcher as a whole, on real files.

mod bulk;
mod full;
mod large;
mod limits;
mod roots;
mod scenario;
mod told;
mod world;
mod writers;
