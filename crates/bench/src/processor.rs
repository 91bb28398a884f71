//! Processor time of processes, from `/proc`: user and system, all threads, and of children that have ended.

use std::{collections::HashSet, fs};

use anyhow::Context;

/// Whose time is counted together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    Process(u32),
    /// A process and everything below it, such as PostgreSQL's: one process per connection.
    Family(u32),
}

/// Microseconds used so far.
pub(crate) fn used(whose: Whose) -> anyhow::Result<f64> {
    match whose {
        Whose::Process(pid) => Ok(stat(pid)?.own),
        Whose::Family(pid) => {
            let all = all()?;
            let mut family = HashSet::from([pid]);
            // A child may be listed before its parent: repeated until nobody is added.
            while all
                .iter()
                .filter(|stat| family.contains(&stat.parent))
                .map(|stat| stat.pid)
                .collect::<Vec<_>>()
                .into_iter()
                .any(|pid| family.insert(pid))
            {}
            Ok(all.iter().filter(|stat| family.contains(&stat.pid)).map(|stat| stat.own + stat.ended).sum())
        }
    }
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is no number")
}

struct Stat {
    pid: u32,
    parent: u32,
    own: f64,
    /// Of children that were waited for.
    ended: f64,
}

fn all() -> anyhow::Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // One that ended meanwhile is among what its parent waited for.
    Ok(pids.filter_map(|pid| stat(pid).ok()).collect())
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    parse(pid, &text).with_context(|| format!("/proc/{pid}/stat is not understood"))
}

fn parse(pid: u32, text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let tick = 1e6 / f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?);
    let time = |field: usize| Some(fields.get(field)?.parse::<u32>().map_or(0.0, f64::from) * tick);
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat { pid, parent, own: time(11)? + time(12)?, ended: time(13)? + time(14)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 300 200 40 10 20 0 1 0 5 6 7";
        let stat = parse(42, line).expect("it parses");
        assert_eq!(stat.parent, 7);
        assert!(stat.own > 0.0 && (stat.own / stat.ended - 10.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_alive() {
        assert!(used(Whose::Family(std::process::id())).expect("it can be read") >= 0.0);
    }
}
