//! The system calls of fanotify, and the handle by which its events name a directory.
#![expect(unsafe_code, reason = "rustix has neither fanotify nor name_to_handle_at")]

use std::{
    ffi::c_int,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, fstatvfs, openat},
    io::Errno,
};

/// The same as for inotify: what a file may have become complete by, and what happens to directories. `FAN_MODIFY`
/// because `truncate(2)` makes no other event.
const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_MODIFY
    | libc::FAN_ATTRIB
    | libc::FAN_DELETE_SELF
    | libc::FAN_MOVE_SELF
    | libc::FAN_ONDIR;

/// Encode as the events do, whether or not the handle can be opened: since Linux 6.5.
const AT_HANDLE_FID: c_int = 0x200;

/// `MAX_HANDLE_SZ`, in words.
const WORDS: usize = 32;

/// A directory, as it is named in events: the id of its file system, then the kernel's `struct file_handle`.
pub(super) type Handle = Box<[u8]>;

/// A queue for events. No `FAN_UNLIMITED_QUEUE`: what the kernel keeps for us is bounded, and what it drops is found by
/// looking.
pub(super) fn group() -> rustix::io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
    // SAFETY: both arguments are plain flags.
    let answer = unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned()) };
    check(answer)?;
    // SAFETY: the call gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// From now on the group has the events of the whole file system that `directory` is on.
pub(super) fn mark(group: BorrowedFd<'_>, directory: &OwnedFd) -> rustix::io::Result<()> {
    change(group, libc::FAN_MARK_ADD, directory)
}

pub(super) fn unmark(group: BorrowedFd<'_>, directory: &OwnedFd) -> rustix::io::Result<()> {
    change(group, libc::FAN_MARK_REMOVE, directory)
}

fn change(group: BorrowedFd<'_>, what: libc::c_uint, directory: &OwnedFd) -> rustix::io::Result<()> {
    let flags = what | libc::FAN_MARK_FILESYSTEM | libc::FAN_MARK_ONLYDIR;
    // SAFETY: both descriptors are borrowed for the call, and the path is a literal that ends with a zero.
    check(unsafe {
        libc::fanotify_mark(group.as_raw_fd(), flags, MASK, directory.as_raw_fd(), c".".as_ptr())
    })
}

/// Not through a link at its end, and without reading it.
pub(super) fn open(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::empty())
}

pub(super) fn handle(directory: &OwnedFd) -> rustix::io::Result<Handle> {
    let words = match encode(directory, AT_HANDLE_FID) {
        // Older kernels, on which both are the same.
        Err(Errno::INVAL) => encode(directory, 0),
        encoded => encoded,
    }?;
    let system = fstatvfs(directory)?.f_fsid;
    let halves = [system & 0xFFFF_FFFF, system >> 32].map(|half| u32::try_from(half).unwrap_or_default());
    let length = 2 * size_of::<u32>() + usize::try_from(words[0]).unwrap_or_default();
    let handle = words.iter().flat_map(|word| word.to_ne_bytes()).take(length);
    Ok(halves.iter().flat_map(|half| half.to_ne_bytes()).chain(handle).collect())
}

/// `struct file_handle`: the number of its bytes, its kind, its bytes.
fn encode(directory: &OwnedFd, flags: c_int) -> rustix::io::Result<[u32; 2 + WORDS]> {
    let mut words = [0_u32; 2 + WORDS];
    words[0] = u32::try_from(WORDS * size_of::<u32>()).unwrap_or_default();
    let mut mount: c_int = 0;
    // SAFETY: the path is a literal that ends with a zero. The kernel writes as many bytes of a handle as the first word
    // says there is room for, which is true, and one int.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            directory.as_raw_fd(),
            c"".as_ptr(),
            words.as_mut_ptr(),
            &raw mut mount,
            libc::AT_EMPTY_PATH | flags,
        )
    };
    check(if answer < 0 { -1 } else { 0 })?;
    Ok(words)
}

fn check(answer: c_int) -> rustix::io::Result<()> {
    if answer >= 0 {
        return Ok(());
    }
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(code))
}
