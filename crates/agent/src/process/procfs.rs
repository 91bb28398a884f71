//! What `/proc` tells about processes.

use std::{fs, io};

/// A pid is given out again; together with its start time it names one process of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks since the boot: field 22 of `/proc/PID/stat`.
    pub(crate) start_time: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) id: ProcessId,
    pub(super) group: i32,
    /// Dead already; only its parent has not asked yet.
    pub(super) zombie: bool,
}

/// Changes with every boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process there is now.
pub(super) fn all() -> impl Iterator<Item = Stat> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
}

/// Whether the process was started with `name=value` in its environment.
pub(super) fn has_variable(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes()))
}

/// The command's name, the second field, may hold anything, parentheses and spaces included; what
/// follows its last parenthesis starts with field 3.
fn parse(pid: i32, text: &[u8]) -> Option<Stat> {
    let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    let start_time = fields.nth(16)?.parse().ok()?;
    Some(Stat { id: ProcessId { pid, start_time }, group, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line() {
        let line = b"77 (a) S (b) Z 1 70 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1";
        let expected = Stat { id: ProcessId { pid: 77, start_time: 4242 }, group: 70, zombie: true };
        assert_eq!(parse(77, line), Some(expected));
        assert_eq!(parse(77, b"77 (x"), None);
        assert_eq!(parse(77, b"77 (x) S 1 2"), None);
    }

    #[test]
    fn this_process() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(stat(pid).expect("a stat").id.pid, pid);
        assert!(all().any(|stat| stat.id.pid == pid));
    }
}
