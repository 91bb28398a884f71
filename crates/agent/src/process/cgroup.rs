//! One cgroup v2 leaf per attempt, where there is a writable hierarchy: the kernel then keeps the
//! list of everything that the attempt has started, and kills it at one word. Without one, [`super::Tree`] makes
//! do with the process group and a search through `/proc`.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use hetuflow_core::{id::InstanceId, job::ResourceLimits};

/// What limits need.
const CONTROLLERS: [&str; 2] = ["memory", "cpu"];

/// More idle leaves than these are removed.
const MOST: usize = 64;

/// The directories that hold the leaves: below the agent's own cgroup, so that limits of its unit hold for its jobs.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    base: PathBuf,
    /// Where leaves have limits of their own. Made when the first is asked for: its controllers make every leaf dear.
    limited: PathBuf,
    stock: Arc<Mutex<Stock>>,
}

/// Leaves for attempts to come. Making and removing one takes longer than all else around a start.
#[derive(Debug)]
struct Stock {
    /// Begins the names of this life's leaves: what is left of an earlier one is never met in them, nor killed with them.
    life: u64,
    made: u64,
    idle: Vec<(PathBuf, Opened)>,
    closed: bool,
}

/// The cgroup of one attempt. When the last holder lets go of it, it is kept for another, or removed.
#[derive(Debug, Clone)]
pub(crate) struct Leaf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    opened: OnceLock<Opened>,
    /// Where it may go back to.
    stock: Option<Arc<Mutex<Stock>>>,
}

#[derive(Debug)]
struct Opened {
    directory: OwnedFd,
    events: File,
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
        enable_around(std::process::id(), &CONTROLLERS, &parent);
        let (base, limited) = (parent.join("hetuflow"), parent.join("hetuflow-limited"));
        make(&base).ok()?;
        let stock = Stock { life: rand::random(), made: 0, idle: Vec::new(), closed: false };
        // Linux 5.14 and later.
        let can_kill = base.join("cgroup.kill").exists();
        can_kill.then(|| Self { base, limited, stock: Arc::new(Mutex::new(stock)) })
    }

    /// One that has been used before, or one that is yet to be made.
    pub(crate) fn leaf(&self, instance_id: InstanceId, limits: Option<&ResourceLimits>) -> Leaf {
        if limits.is_some_and(needs_controllers) {
            if make(&self.limited).is_ok() {
                enable(&CONTROLLERS, &self.limited);
            }
            return Leaf::new(self.limited.join(instance_id.to_string()), OnceLock::new(), None);
        }
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, opened) = if let Some((path, opened)) = stock.idle.pop() {
            (path, OnceLock::from(opened))
        } else {
            stock.made += 1;
            (self.base.join(format!("{:016x}-{}", stock.life, stock.made)), OnceLock::new())
        };
        Leaf::new(path, opened, Some(Arc::clone(&self.stock)))
    }

    /// Leaves nothing behind, unless another agent uses the directories too.
    pub(crate) fn remove(&self) {
        let idle = {
            let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
            stock.closed = true;
            std::mem::take(&mut stock.idle)
        };
        for (path, _) in idle {
            let _ = fs::remove_dir(path);
        }
        let _ = fs::remove_dir(&self.limited);
        let _ = fs::remove_dir(&self.base);
    }
}

impl Leaf {
    fn new(path: PathBuf, opened: OnceLock<Opened>, stock: Option<Arc<Mutex<Stock>>>) -> Self {
        Self(Arc::new(Inner { path, opened, stock }))
    }

    /// One that an earlier life of the agent made.
    pub(crate) fn found(path: PathBuf) -> Self {
        Self::new(path, OnceLock::new(), None)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Makes it, unless it is there, and opens its directory, through which a process enters it.
    pub(super) fn open(&self) -> io::Result<()> {
        if self.0.opened.get().is_some() {
            return Ok(());
        }
        let path = self.path();
        if let Err(error) = make(path) {
            // Another agent of this host may have removed the directory above as it stopped.
            let base = path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound).ok_or(error)?;
            make(base)?;
            make(path)?;
        }
        let directory = File::open(path)?.into();
        let opened = Opened { directory, events: File::open(path.join("cgroup.events"))? };
        // Nobody else opens it.
        let _ = self.0.opened.set(opened);
        Ok(())
    }

    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.0.opened.get().map(|opened| opened.directory.as_fd())
    }

    /// Yields the limits that cannot be kept here.
    pub(super) fn limit(&self, limits: &ResourceLimits) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if let Some(megabytes) = limits.max_memory_mb {
            let bytes = megabytes.saturating_mul(1024 * 1024).to_string();
            if fs::write(self.path().join("memory.max"), bytes).is_err() {
                missing.push("max_memory_mb");
            }
            // The whole attempt ends, not one of its processes at the kernel's choice.
            let _ = fs::write(self.path().join("memory.oom.group"), "1");
        }
        if let Some(cores) = limits.max_cpu_percent
            && fs::write(self.path().join("cpu.max"), cpu_max(cores)).is_err()
        {
            missing.push("max_cpu_percent");
        }
        missing
    }

    /// Whether no living process is in it, as it should be when an attempt leaves nothing behind. One call that neither
    /// waits nor searches; one that is not for use again is removed by it.
    pub(super) fn is_deserted(&self) -> bool {
        match &self.0.stock {
            Some(_) => self.0.opened.get().is_some_and(Opened::is_deserted),
            None => fs::remove_dir(self.path()).is_ok(),
        }
    }

    pub(super) fn kill(&self) {
        // Fails only when there is no such leaf (any more).
        let _ = fs::write(self.path().join("cgroup.kill"), "1");
    }

    /// Whether a living process is in it, or below it; `None`: there is no such leaf (any more).
    pub(super) fn populated(&self) -> Option<bool> {
        let events = fs::read_to_string(self.path().join("cgroup.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("populated ")).map(|value| value == "1")
    }

    pub(super) fn processes(&self) -> Vec<i32> {
        let listed = fs::read_to_string(self.path().join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(super) fn remove(&self) {
        // Jobs may have made cgroups of their own in it, one level deep in all that is known.
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(self.path());
    }
}

impl Opened {
    /// Nobody lives in it or below it, and who is born in it would not stand still.
    fn is_deserted(&self) -> bool {
        let mut events = [0; 64];
        let read = self.events.read_at(&mut events, 0).unwrap_or_default();
        events[..read] == *b"populated 0\nfrozen 0\n"
    }

    /// A job may have made cgroups of its own in it.
    fn is_childless(&self) -> bool {
        rustix::fs::fstat(&self.directory).is_ok_and(|meta| meta.st_nlink == 2)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some((stock, opened)) = self.stock.as_ref().zip(self.opened.take()) else { return };
        if opened.is_deserted() && opened.is_childless() {
            let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
            if !stock.closed && stock.idle.len() < MOST {
                stock.idle.push((std::mem::take(&mut self.path), opened));
                return;
            }
        }
        // Fails where somebody still lives; the next start of the agent looks after what is left.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Fails where they are enabled already, where the cgroup holds processes, or where they belong to cgroup v1: then
/// limits of memory and processor time are not to be had here.
/// Whether it could not be done because the cgroup holds processes: their children get no controllers.
fn enable(controllers: &[&str], cgroup: &Path) -> bool {
    let mut busy = false;
    for one in controllers {
        let done = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{one}"));
        busy |= done.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy);
    }
    busy
}

/// Where the process `own` is alone, as in a unit of systemd with `Delegate=`, it makes room.
fn enable_around(own: u32, controllers: &[&str], cgroup: &Path) {
    if enable(controllers, cgroup) && holds_only(cgroup, own) && step_aside(cgroup, own).is_ok() {
        enable(controllers, cgroup);
    }
}

fn holds_only(cgroup: &Path, own: u32) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|held| held.trim() == own.to_string())
}

fn step_aside(cgroup: &Path, own: u32) -> io::Result<()> {
    let aside = cgroup.join("agent");
    make(&aside)?;
    fs::write(aside.join("cgroup.procs"), own.to_string())
}

fn needs_controllers(limits: &ResourceLimits) -> bool {
    limits.max_memory_mb.is_some() || limits.max_cpu_percent.is_some()
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

    /// A child of a test in a cgroup of its own, as systemd makes one for a unit.
    struct Unit {
        cgroup: PathBuf,
        child: std::process::Child,
    }

    impl Unit {
        /// `None` where cgroups cannot be made here; whoever runs the tests is told.
        #[expect(clippy::disallowed_methods, reason = "something that holds a cgroup")]
        fn new(mount: &Path, controller: &str) -> Option<Self> {
            enable(&[controller], mount);
            let cgroup = mount.join(format!("hetuflow-test-{}", rand::random::<u64>()));
            if let Err(error) = fs::create_dir(&cgroup) {
                eprintln!("NOT TESTED, no cgroup can be made in {}: {error}", mount.display());
                return None;
            }
            let child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn();
            let child = child.expect("cat runs");
            fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).expect("it moves");
            Some(Self { cgroup, child })
        }
    }

    impl Drop for Unit {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = fs::remove_dir(self.cgroup.join("agent"));
            let _ = fs::remove_dir(&self.cgroup);
        }
    }

    #[test]
    fn who_is_alone_in_a_cgroup_makes_room_for_limits() {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let Some(mount) = unified_mounts(&mounts).next() else {
            eprintln!("NOT TESTED, there is no cgroup v2 here");
            return;
        };
        // Which one is all the same: in a hybrid layout memory is elsewhere.
        let controllers = fs::read_to_string(Path::new(mount).join("cgroup.controllers")).expect("readable");
        let threaded = ["cpu", "cpuset", "pids", "perf_event"];
        let Some(one) = controllers.split_whitespace().find(|one| !threaded.contains(one)) else {
            eprintln!("NOT TESTED, cgroup v2 has no controller here");
            return;
        };
        let Some(unit) = Unit::new(Path::new(mount), one) else { return };
        let read = |name: &str| fs::read_to_string(unit.cgroup.join(name)).expect("readable");
        enable_around(unit.child.id() + 1, &[one], &unit.cgroup);
        assert_eq!(read("cgroup.subtree_control").trim(), "", "it holds somebody else");
        enable_around(unit.child.id(), &[one], &unit.cgroup);
        assert_eq!(read("cgroup.subtree_control").trim(), one);
        assert_eq!(read("agent/cgroup.procs").trim(), unit.child.id().to_string());
    }
}
