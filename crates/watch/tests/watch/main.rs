//! The watcher as a whole, on real files.

mod bulk;
mod claim;
mod fanotify;
mod full;
mod large;
mod limits;
mod mark;
mod no_openat2;
mod overlap;
mod rooms;
mod roots;
mod scenario;
mod sequence;
mod strict;
mod swapped;
mod told;
#[expect(dead_code, reason = "the tests of mounts use the rest of it")]
mod world;
mod writers;
