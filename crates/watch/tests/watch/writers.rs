//! Writers that do what few programs do, for the scenarios.
#![expect(unsafe_code, reason = "a shared mapping, and truncation by name, have no safe form")]

use std::{
    ffi::{CString, c_void},
    fs::{File, OpenOptions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, RenameFlags, fallocate, linkat, renameat_with};

/// A file without a name until it is complete.
pub(crate) fn nameless(path: &Path, text: &[u8]) {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).expect("a flag");
    let folder = path.parent().expect("a folder");
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(folder).expect("opened");
    file.write_all(text).expect("written");
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW).expect("linked");
}

/// With all of its length before any of its bytes.
pub(crate) fn allocate(path: &Path, length: u64) -> File {
    let file = File::create_new(path).expect("made");
    fallocate(&file, FallocateFlags::empty(), 0, length).expect("allocated");
    file
}

pub(crate) fn truncate(path: &Path, length: i64) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: the path ends with a zero and lives as long as the call.
    assert_eq!(unsafe { libc::truncate(path.as_ptr(), length) }, 0, "not truncated");
}

pub(crate) fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchanged");
}

/// A shared mapping of a file that nobody has open any more.
pub(crate) struct Map {
    place: *mut c_void,
    length: usize,
}

// SAFETY: the place is this one's alone, and a mapping belongs to the process and not to a thread.
unsafe impl Send for Map {}
// SAFETY: a shared one does nothing.
unsafe impl Sync for Map {}

impl Map {
    pub(crate) fn new(path: &Path, text: &[u8]) -> Self {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("made");
        file.set_len(text.len() as u64).expect("a length");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice, as long as the file.
        let place = unsafe {
            libc::mmap(std::ptr::null_mut(), text.len(), protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(place, libc::MAP_FAILED, "not mapped");
        // SAFETY: the mapping is as long as the text, and nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast(), text.len()) };
        Self { place, length: text.len() }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping from `new`, which is not used after this.
        unsafe { libc::munmap(self.place, self.length) };
    }
}
