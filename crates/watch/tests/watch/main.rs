//! The watcher as a whole, on real files.

mod bulk;
mod roots;
mod scenario;
mod world;
