//! The watcher as a whole, on real files.

mod bulk;
mod scenario;
mod world;
