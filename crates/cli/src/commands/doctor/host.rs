//! The machine: what the kernel offers, and how much of it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, OFlags, access, statvfs},
    process::{Resource, getrlimit},
};

use super::Finding;

/// Fewer hold up a busy agent: each process that runs takes a handful.
const OPEN_FILES: u64 = 4096;
/// What a watch over a large tree needs, a kibibyte of the kernel's memory each at most.
const WATCHES: u64 = 65_536;
/// A burst of files: what does not fit makes the agent look at everything again.
const QUEUED_EVENTS: u64 = 16_384;
/// Each watch that may hang has one of its own.
const INSTANCES: u64 = 128;

/// Below this much the next burst of events may find no room.
const ROOM: u64 = 1024 * 1024 * 1024;
/// A commit that takes longer is what a server is slow by.
const SLOW: Duration = Duration::from_millis(5);
const TRIES: usize = 21;

pub(super) fn look() -> Vec<Finding> {
    let mut found = vec![processes(), open_files()];
    let limits = [
        ("max_user_watches", WATCHES),
        ("max_queued_events", QUEUED_EVENTS),
        ("max_user_instances", INSTANCES),
    ];
    found.extend(limits.into_iter().filter_map(|(name, wanted)| inotify(name, wanted)));
    found
}

/// How the processes of a job are kept together, and ended.
fn processes() -> Finding {
    let (what, better) =
        ("processes", "the units of systemd/ give the agent a cgroup of its own (Delegate=yes)");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    let Some(mount) = mount else {
        let text = "there is no cgroup v2: what a job leaves behind is searched for in /proc, and `resource_limits` hold \
                    for each process alone";
        return Finding::warning(what, text, better);
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let place = mount.join(own);
    let place = if place.exists() { place } else { mount };
    if access(&place, Access::WRITE_OK).is_err() {
        let text = format!(
            "this user may not make cgroups in {}: as that of the agent it would search /proc",
            place.display()
        );
        return Finding::warning(what, text, better);
    }
    Finding::good(what, format!("each run gets a cgroup of its own in {}", place.display()))
}

fn open_files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES => {
            let text = format!("a process may have {limit} files open at once");
            Finding::warning(
                "open files",
                text,
                format!("LimitNOFILE={OPEN_FILES} in the unit, or `ulimit -n {OPEN_FILES}`"),
            )
        }
        Some(limit) => Finding::good("open files", format!("{limit} at once")),
        None => Finding::good("open files", "without a limit"),
    }
}

/// `None` where the system has no such limit.
fn inotify(name: &str, wanted: u64) -> Option<Finding> {
    let value: u64 = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()?;
    let what = format!("fs.inotify.{name}");
    if value >= wanted {
        return Some(Finding::good(&what, value.to_string()));
    }
    let text = format!("{value}: large trees are polled, bursts looked for again");
    Some(Finding::warning(&what, text, format!("sysctl fs.inotify.{name}={wanted}")))
}

/// A directory in which something is to be kept: whether it can be, and how fast.
pub(super) fn disk(what: &str, dir: &Path) -> Finding {
    let Some(there) = dir.ancestors().find(|dir| dir.exists()) else {
        return Finding::bad(what, format!("nothing of {} exists", dir.display()), "name another directory");
    };
    if access(there, Access::WRITE_OK).is_err() {
        let text = format!("this user may not write to {}", there.display());
        return Finding::bad(
            what,
            text,
            "make it writable for the user that the program runs as, or ask as that user",
        );
    }
    if hetuflow_watch::is_remote(there) {
        let text = format!("{} is on a network file system, where commits may be lost", there.display());
        return Finding::bad(what, text, "put it on a local disk");
    }
    let made = if there == dir { String::new() } else { ", is made at the first start".to_owned() };
    let room = statvfs(there).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let gib = room / (1024 * 1024 * 1024);
    if room < ROOM {
        let text = format!("{} has {} MiB free", dir.display(), room / (1024 * 1024));
        return Finding::bad(what, text, "make room: what cannot be stored is refused");
    }
    match commit(there) {
        Ok(took) => {
            let text = format!(
                "{}{made}, {gib} GiB free, a commit takes {:.1} ms",
                dir.display(),
                took.as_secs_f64() * 1000.0
            );
            if took < SLOW {
                Finding::good(what, text)
            } else {
                Finding::warning(what, text, "a disk that syncs faster: each single event waits that long")
            }
        }
        // Some file systems have no files without a name.
        Err(_) => Finding::good(what, format!("{}{made}, {gib} GiB free", dir.display())),
    }
}

/// The middle of some writes that are on the disk when they return.
fn commit(dir: &Path) -> std::io::Result<Duration> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(dir)?;
    file.write_all(&[0; 4096])?;
    file.sync_data()?;
    let mut took = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let began = Instant::now();
        file.write_all_at(&[1; 4096], 0)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[TRIES / 2])
}
