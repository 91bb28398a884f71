//! The one module with `unsafe`: what a process does between fork and exec, where only system calls
//! are allowed, so that everything they need is made before; and the registration of a pidfd.

#![expect(unsafe_code, reason = "promises that the compiler cannot check; see each SAFETY")]

use std::{fs::File, io, os::fd::OwnedFd};

use nix::unistd::{setgid, setgroups, setuid};
use rustix::fs::Mode;
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::Command,
};

use super::RunAs;

/// Files of a job are its own unless it says otherwise.
const UMASK: Mode = Mode::from_raw_mode(0o077);

/// Enters the cgroup through `procs`, then becomes `user`. In this order: from the first
/// instruction of the program on, whatever it starts is in the cgroup.
pub(super) fn prepare(command: &mut Command, procs: Option<File>, user: Option<RunAs>) {
    let enter = move || -> io::Result<()> {
        rustix::process::umask(UMASK);
        close_inherited();
        if let Some(procs) = &procs {
            rustix::io::write(procs, b"0")?;
        }
        if let Some(user) = &user {
            setgroups(&user.groups)?;
            setgid(user.gid)?;
            setuid(user.uid)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only, on memory and descriptors that were made before
    // the fork; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Descriptors that the agent itself was started with would reach the program. They are marked to be closed
/// by exec and not closed here, because the report of a failed exec goes through one of them.
fn close_inherited() {
    // SAFETY: a system call without pointers. Linux before 5.11 does not know the flag and does nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Lets the runtime wait for the end of the process that the pidfd stands for.
pub(super) fn register(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    unsafe { Ok(AsyncFd::register_with_interest(pidfd, Interest::READABLE)?) }
}
