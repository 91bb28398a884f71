//! The only place that starts and ends processes. A process gets an environment, a group and,
//! where the kernel has one to give, a cgroup of its own; no shell comes in between. Everything
//! that it starts ends with it ([`Tree`]). Called by [`crate::runner`]. Step 9 of the walk.

mod cgroup;
mod environment;
mod files;
mod image;
mod procfs;
mod raw;
mod spawn;
mod tree;
mod user;

use cgroup::Cgroups;
pub(crate) use cgroup::Leaf;
pub(crate) use files::Manifest;
pub(crate) use procfs::{ProcessId, boot_id};
pub(crate) use spawn::{Ended, Running, SpawnError, Spawner};
pub(crate) use tree::Tree;
use user::RunAs;

/// The variable that names the attempt, by which the processes of its tree are found again.
pub(crate) const MARKER: &str = "HETUFLOW_INSTANCE_ID";
