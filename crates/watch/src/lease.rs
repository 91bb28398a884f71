//! The writer test: whether anybody on this machine has a file open for writing, answered exactly by
//! asking the kernel for a read lease on it. The kernel refuses the lease while a writer exists (also
//! one that only holds a shared writable mapping, though not on overlayfs), and nobody is disturbed: the lease is given back
//! at once. Works on local file systems, for the file's owner or with `CAP_LEASE`.
//!
//! Has `unsafe`, as `hint/fanotify/system.rs`: rustix has no `F_SETLEASE`.
#![expect(unsafe_code, reason = "fcntl(F_SETLEASE) and sigaction have no safe wrapper in rustix")]

use std::{fs::File, os::fd::AsRawFd};

use rustix::{
    fs::{FileType, fstat},
    io::Errno,
};

/// Who has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    None,
    Open,
    /// The test cannot tell here; only quiet time can.
    Unknown,
}

/// `file` is open for reading alone, and closed soon.
pub(crate) fn test(file: rustix::io::Result<File>) -> Writer {
    let Ok(file) = file else { return Writer::Unknown };
    let regular =
        fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !regular {
        return Writer::Unknown;
    }
    match set_lease(&file, libc::F_RDLCK) {
        Ok(()) => {
            // Closing the file would give it back too; this is sooner, and holds over a fork.
            let _ = set_lease(&file, libc::F_UNLCK);
            Writer::None
        }
        Err(Errno::AGAIN) => Writer::Open,
        // EACCES: not the owner. EINVAL, EOPNOTSUPP: no leases on this file system.
        Err(_) => Writer::Unknown,
    }
}

fn set_lease(file: &File, kind: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and F_SETLEASE takes an int.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if answer == 0 {
        return Ok(());
    }
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(code))
}

/// Must run before the first [`test`]. Somebody who opens the file for writing in the microseconds
/// in which we hold the lease makes the kernel send us `SIGIO`, whose default action ends the
/// process. A handler that does nothing, rather than `SIG_IGN`, because processes that the agent
/// starts would inherit the latter. A handler that is there already stays.
pub(crate) fn survive_sigio() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all-zero is a valid `sigaction` (default action, no flags, an empty mask); both pointers are
    // to live values of that type; the handler touches nothing, so it is async-signal-safe.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGIO, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_DFL
        {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGIO, &raw const action, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path};

    use super::*;

    fn test(path: &Path) -> Writer {
        let opened = fs::File::open(path);
        super::test(opened.map_err(|error| Errno::from_io_error(&error).expect("an error of the system")))
    }

    #[test]
    fn an_open_writer_is_seen_until_it_closes() {
        survive_sigio();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        let mut file = fs::File::create(&path).expect("a file");
        file.write_all(b"half").expect("written");
        assert_eq!(test(&path), Writer::Open);
        let renamed = dir.path().join("g");
        fs::rename(&path, &renamed).expect("renamed");
        assert_eq!(test(&renamed), Writer::Open, "a writer keeps the file open over a rename");
        drop(file);
        assert_eq!(test(&renamed), Writer::None);
        let reader = fs::File::open(&renamed).expect("a reader");
        assert_eq!(test(&renamed), Writer::None, "readers do not matter");
        drop(reader);
        assert_eq!(test(&dir.path().join("absent")), Writer::Unknown);
    }

    #[test]
    fn writers_that_open_in_the_middle_of_a_test_do_no_harm() {
        survive_sigio();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        fs::write(&path, "x").expect("a file");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2000 {
                    fs::OpenOptions::new().append(true).open(&path).expect("opened");
                }
            });
            for _ in 0..2000 {
                test(&path);
            }
        });
        assert_eq!(test(&path), Writer::None);
    }
}
