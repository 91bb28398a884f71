//! One cgroup v2 leaf per attempt, where there is a writable hierarchy: the kernel then keeps the
//! list of everything that the attempt has started, and kills it at one word. Without one, [`super::Tree`] makes
//! do with the process group and a search through `/proc`.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use hetuflow_core::{id::InstanceId, job::ResourceLimits};

/// The directory that holds the leaves: below the agent's own cgroup, so that limits of its unit
/// hold for its jobs.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    base: PathBuf,
}

/// The cgroup of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    path: PathBuf,
}

impl Cgroups {
    /// Looks for a hierarchy in which leaves can be made and killed.
    pub(crate) fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        unified_mounts(&mounts).find_map(|mount| Self::at(mount, own))
    }

    fn at(mount: &str, own: &str) -> Option<Self> {
        let inside = Path::new(mount).join(own);
        let parent = if inside.join("cgroup.procs").exists() { inside } else { PathBuf::from(mount) };
        // Fails where they are enabled already, where this cgroup holds processes, or where they
        // belong to cgroup v1: then limits of memory and processor time are not to be had here.
        for controller in ["+memory", "+cpu"] {
            let _ = fs::write(parent.join("cgroup.subtree_control"), controller);
        }
        let base = parent.join("hetuflow");
        make(&base).ok()?;
        for controller in ["+memory", "+cpu"] {
            let _ = fs::write(base.join("cgroup.subtree_control"), controller);
        }
        // Linux 5.14 and later.
        base.join("cgroup.kill").exists().then_some(Self { base })
    }

    pub(crate) fn leaf(&self, instance_id: InstanceId) -> Leaf {
        Leaf { path: self.base.join(instance_id.to_string()) }
    }

    /// Leaves nothing behind, unless another agent uses the directory too.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir(&self.base);
    }
}

impl Leaf {
    /// One that an earlier life of the agent made.
    pub(crate) fn found(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, and opens its directory, through which a process enters it.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        if let Err(error) = make(&self.path) {
            // Another agent of this host may have removed the directory above as it stopped.
            let base = self.path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound).ok_or(error)?;
            make(base)?;
            make(&self.path)?;
        }
        File::open(&self.path).map(OwnedFd::from)
    }

    /// Yields the limits that cannot be kept here.
    pub(super) fn limit(&self, limits: &ResourceLimits) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if let Some(megabytes) = limits.max_memory_mb {
            let bytes = megabytes.saturating_mul(1024 * 1024).to_string();
            if fs::write(self.path.join("memory.max"), bytes).is_err() {
                missing.push("max_memory_mb");
            }
            // The whole attempt ends, not one of its processes at the kernel's choice.
            let _ = fs::write(self.path.join("memory.oom.group"), "1");
        }
        if let Some(cores) = limits.max_cpu_percent
            && fs::write(self.path.join("cpu.max"), cpu_max(cores)).is_err()
        {
            missing.push("max_cpu_percent");
        }
        missing
    }

    /// Removes it when no living process is in it. One call, in the usual case that an attempt leaves nothing behind;
    /// it neither waits nor searches.
    pub(super) fn remove_empty(&self) -> io::Result<()> {
        fs::remove_dir(&self.path)
    }

    pub(super) fn kill(&self) {
        // Fails only when there is no such leaf (any more).
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Whether a living process is in it, or below it; `None`: there is no such leaf (any more).
    pub(super) fn populated(&self) -> Option<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("populated ")).map(|value| value == "1")
    }

    pub(super) fn processes(&self) -> Vec<i32> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(super) fn remove(&self) {
        // Jobs may have made cgroups of their own in it, one level deep in all that is known.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(&self.path);
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Where cgroup v2 is mounted for writing; beside v1 (hybrid) it is not at `/sys/fs/cgroup` itself.
fn unified_mounts(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let path = fields.nth(1)?;
        let kind = fields.next()?;
        let writable = fields.next()?.split(',').any(|option| option == "rw");
        (kind == "cgroup2" && writable).then_some(path)
    })
}

/// Microseconds of processor time in each 100 ms.
fn cpu_max(cores: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a range that fits"
    )]
    let quota = (cores * 100_000.0).clamp(1000.0, 1e9) as u64;
    format!("{quota} 100000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_layouts() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(unified_mounts(line).next(), expected, "{line}");
        };
        check("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0", Some("/sys/fs/cgroup"));
        check("cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0", Some("/sys/fs/cgroup/unified"));
        check("cgroup2 /sys/fs/cgroup cgroup2 ro,nosuid 0 0", None);
        check("cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0", None);
    }

    #[test]
    fn cores() {
        assert_eq!(cpu_max(1.5), "150000 100000");
        assert_eq!(cpu_max(f64::MIN), "1000 100000");
    }
}
