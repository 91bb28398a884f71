//! The one module with `unsafe`: what happens between clone and exec, where only system calls are allowed, so that
//! everything they need is made before ([`Image`]); and the registration of a pidfd.
//!
//! A fork copies the page tables of the agent, and both sides then copy the pages that they touch: half a
//! millisecond for each run. The child here borrows the agent's memory until it has become its program, as
//! `posix_spawn` does it, on a stack of its own, while the thread that made it waits. One that becomes another user
//! on its way does not: that user's processes must never be near the memory of an agent that runs as root.

#![expect(unsafe_code, reason = "promises that the compiler cannot check; see each SAFETY")]

use std::{
    ffi::{c_int, c_void},
    io,
    mem::{self, MaybeUninit},
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::atomic::Ordering,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::image::Image;

/// Files of a job are its own unless it says otherwise.
const UMASK: libc::mode_t = 0o077;

/// The child makes system calls with what is there; it needs no more, and of this it touches a page or two.
const STACK: usize = 16 * 1024;

/// What stacks are made of, for their alignment.
type Cell = MaybeUninit<u128>;

const PROCS: &std::ffi::CStr = c"cgroup.procs";

/// A process that was made: its number, and the descriptor that keeps it apart from all later ones.
pub(super) struct Made {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

/// Makes the process. Why a child could not become its program comes through `image.report`, or is in `image.problem`.
pub(super) fn make(image: &Image) -> io::Result<Made> {
    let mut stack = Vec::with_capacity(STACK / size_of::<u128>());
    let stack = stack.spare_capacity_mut();
    // SAFETY: the sets are written before they are read. A handler of the agent's must not run in a child that shares
    // its memory, so signals wait until the child has taken the handlers off.
    let before = unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (mem::zeroed(), mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    let made = born(image, stack).or_else(|_| by_hand(image, stack));
    // SAFETY: puts back the mask from above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    made
}

fn flags(image: &Image) -> c_int {
    let shared = if image.user.is_some() { 0 } else { libc::CLONE_VM | libc::CLONE_VFORK };
    shared | libc::CLONE_PIDFD
}

/// Born in its cgroup and without the agent's handlers: moving it there afterwards waits for all processors, and to ask
/// about each signal takes as many calls. Fails, before anything is made, where the kernel or a filter of system
/// calls does not know how.
fn born(image: &Image, stack: &mut [Cell]) -> io::Result<Made> {
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: a struct of numbers, for which zero is a value.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from(flags(image).unsigned_abs()) | CLONE_CLEAR_SIGHAND;
    if let Some(cgroup) = image.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.unsigned_abs());
    }
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    args.stack = stack.as_mut_ptr().expose_provenance() as u64;
    args.stack_size = size_of_val(stack) as u64;
    // SAFETY: `args`, `stack` and `image` live until the child has gone its way: this thread waits for that
    // (CLONE_VFORK), or the child has copies.
    let result = unsafe { clone3(&args, image) };
    let pid = i32::try_from(result).map_err(io::Error::other)?;
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid));
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(Made { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// The child enters its cgroup by itself, and takes the handlers off.
fn by_hand(image: &Image, stack: &mut [Cell]) -> io::Result<Made> {
    let mut pidfd: RawFd = -1;
    let top = stack.as_mut_ptr_range().end.cast();
    let argument = ptr::from_ref(image).cast_mut().cast();
    // SAFETY: as above; the stack grows down from its end, which is aligned.
    let pid =
        unsafe { libc::clone(enter_and_run, top, flags(image) | libc::SIGCHLD, argument, &raw mut pidfd) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(Made { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// The C library has no function for it. The child begins on the stack that `args` names, and never comes back here.
///
/// # Safety
/// `args` must name a stack, and that and `image` must outlive the child's way to its program.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &libc::clone_args, image: &Image) -> libc::c_long {
    let result;
    // SAFETY: both sides keep their registers; only the child goes the way of the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") image,
            in("r13") run as extern "C" fn(&Image) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// See above.
///
/// # Safety
/// See above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &libc::clone_args, image: &Image) -> libc::c_long {
    let result;
    // SAFETY: both sides keep their registers; only the child goes the way of the call.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") image,
            in("x21") run as extern "C" fn(&Image) -> !,
        );
    }
    result
}

/// Elsewhere the child enters its cgroup by itself.
///
/// # Safety
/// None is needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &libc::clone_args, _: &Image) -> libc::c_long {
    -libc::c_long::from(libc::ENOSYS)
}

extern "C" fn enter_and_run(image: *mut c_void) -> c_int {
    // SAFETY: what `by_hand` gave.
    let image = unsafe { &*image.cast::<Image>() };
    if let Err(errno) = enter(image) {
        fail(image, errno);
    }
    reset_signals();
    run(image)
}

extern "C" fn run(image: &Image) -> ! {
    let errno = prepare(image).map_or_else(|errno| errno, |()| execute(image));
    fail(image, errno)
}

/// The agent finds the number in its own memory, or, where that is not shared, in the pipe.
fn fail(image: &Image, errno: c_int) -> ! {
    image.problem.store(errno, Ordering::Relaxed);
    // SAFETY: system calls; nothing of the agent's own that would run at an exit may run here.
    unsafe {
        if let Some(report) = image.report {
            libc::write(report, (&raw const errno).cast(), size_of_val(&errno));
        }
        libc::_exit(127)
    }
}

fn enter(image: &Image) -> Result<(), c_int> {
    let Some(cgroup) = image.cgroup else { return Ok(()) };
    // SAFETY: system calls on descriptors of this process and a constant.
    unsafe {
        let procs = libc::openat(cgroup, PROCS.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(procs)?;
        check(libc::write(procs, c"0".as_ptr().cast(), 1))
    }
}

/// All that a program finds set; becoming its user is the last, for what comes before may need the agent's rights.
fn prepare(image: &Image) -> Result<(), c_int> {
    // SAFETY: system calls on what was made before the clone.
    unsafe {
        // The runtime of Rust ignores it; a broken pipe shall end the program.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        check(libc::setpgid(0, 0))?;
        for (to, from) in (0..).zip(image.stdio) {
            check(libc::dup2(from, to))?;
        }
        libc::umask(UMASK);
        // Descriptors that the agent itself was started with would reach the program. They are marked to be closed by
        // exec and not closed here, because the report of a failed exec goes through one of them. Linux before 5.11
        // does not know the flag and does nothing.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        check(libc::chdir(image.working_dir.as_ptr()))?;
        if let Some(user) = &image.user {
            // The library's own functions would ask all threads of the agent to do the same.
            check(libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()))?;
            check(libc::syscall(libc::SYS_setgid, user.gid))?;
            check(libc::syscall(libc::SYS_setuid, user.uid))?;
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()))
    }
}

/// Takes the agent's handlers off.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: the action is written by the first call before it is read; numbers that are none are refused.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &raw mut action) != 0 {
                continue;
            }
            if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

/// Becomes the first program that there is; yields why there is none.
fn execute(image: &Image) -> c_int {
    let mut problem = libc::ENOENT;
    for program in &image.programs {
        // SAFETY: strings and lists that end with a null, made before the clone.
        unsafe { libc::execve(program.as_ptr(), image.arguments.as_ptr(), image.environment.as_ptr()) };
        match errno() {
            libc::EACCES => problem = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            other => return other,
        }
    }
    problem
}

fn check(result: impl TryInto<i64>) -> Result<(), c_int> {
    if result.try_into().is_ok_and(|result| result >= 0) { Ok(()) } else { Err(errno()) }
}

fn errno() -> c_int {
    // SAFETY: the address is always there.
    unsafe { *libc::__errno_location() }
}

/// Lets the runtime wait for the end of the process that the pidfd stands for.
pub(super) fn register(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    unsafe { Ok(AsyncFd::register_with_interest(pidfd, Interest::READABLE)?) }
}
