//! The watcher as a whole, on real files.

mod bulk;
mod large;
mod limits;
mod roots;
mod scenario;
mod world;
mod writers;
