//! What `/proc` tells about processes.

use std::{
    fs,
    io::{self, Read as _},
};

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
    /// Of the kernel's own, which run no program.
    kernel: bool,
    program: Program,
}

/// Where the program of a process lies: fields 27 and 28 of `/proc/PID/stat`. The stack of each program begins
/// somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    /// Zero until the kernel has made the program ready, which is after it has put the environment there.
    code_end: u64,
    stack: u64,
}

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Larger environments are rare.
const AT_ONCE: usize = 32 * 1024;

/// How often a process that has become another program during the question is asked again.
const ASKED: usize = 3;

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

/// Whether the process was started with `name=value` in its environment. `None`: it is just becoming another program,
/// and for that moment has no environment.
pub(super) fn has_variable(process: &Stat, name: &str, value: &str) -> Option<bool> {
    let wanted = format!("{name}={value}");
    let mut before = *process;
    for _ in 0..ASKED {
        match environ(process.id.pid) {
            Ok(environ) if !environ.is_empty() => {
                return Some(environ.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes()));
            }
            Ok(_) if !process.kernel => {}
            Ok(_) | Err(_) => return Some(false),
        }
        // No environment counts only where it is that of one program, which was ready before and runs still.
        match stat(process.id.pid).filter(|now| now.id == process.id) {
            Some(now) if now.program == before.program && now.program.code_end != 0 => return Some(false),
            Some(now) => before = now,
            None => return Some(false),
        }
    }
    None
}

/// A process that became another program since the file was opened has nothing more to show, so that a file which is
/// read in small pieces may lack its end: here one call reads whatever is usual.
fn environ(pid: i32) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(format!("/proc/{pid}/environ"))?;
    let mut bytes = vec![0; AT_ONCE];
    let mut end = 0;
    loop {
        match file.read(&mut bytes[end..])? {
            0 => break,
            read => end += read,
        }
        if end < bytes.len() {
            break;
        }
        bytes.resize(2 * end, 0);
    }
    bytes.truncate(end);
    Ok(bytes)
}

/// The command's name, the second field, may hold anything, parentheses and spaces included; what
/// follows its last parenthesis starts with field 3.
fn parse(pid: i32, text: &[u8]) -> Option<Stat> {
    let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    let kernel = fields.nth(3)?.parse::<u32>().ok()? & KERNEL_THREAD != 0;
    let start_time = fields.nth(12)?.parse().ok()?;
    let code_end = fields.nth(4)?.parse().ok()?;
    let program = Program { code_end, stack: fields.next()?.parse().ok()? };
    Some(Stat { id: ProcessId { pid, start_time }, group, zombie, kernel, program })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line() {
        let line = b"77 (a) S (b) Z 1 70 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1 -1 64 72 80 88";
        let expected = Stat {
            id: ProcessId { pid: 77, start_time: 4242 },
            group: 70,
            zombie: true,
            kernel: false,
            program: Program { code_end: 72, stack: 80 },
        };
        assert_eq!(parse(77, line), Some(expected));
        let thread = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 0 0 20 0 1 0 11 0 0 0 0 0 0";
        assert!(parse(2, thread).is_some_and(|stat| stat.kernel));
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
