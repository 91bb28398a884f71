//! What a process is made of: everything that it needs between clone and exec, in the form in which system calls
//! take it, because nothing can be made there any more.

use std::{
    ffi::{CString, OsStr, c_char},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
    sync::atomic::AtomicI32,
};

use hetuflow_core::job::Command;

use super::{RunAs, environment::Environment};

/// Holds what the lists point to; the numbers are of descriptors that outlive the making.
pub(super) struct Image {
    /// Tried in this order.
    pub(super) programs: Vec<CString>,
    pub(super) arguments: List,
    pub(super) environment: List,
    pub(super) working_dir: CString,
    pub(super) stdio: [RawFd; 3],
    /// The directory of its cgroup.
    pub(super) cgroup: Option<RawFd>,
    pub(super) user: Option<Ids>,
    /// Takes the error of a child that does not come to its program and does not share this memory.
    pub(super) report: Option<RawFd>,
    /// The error of one that does; 0 when there was none.
    pub(super) problem: AtomicI32,
}

pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Strings, and the list of their addresses that ends with a null.
pub(super) struct List {
    addresses: Vec<*const c_char>,
    _strings: Vec<CString>,
}

/// The descriptors of a child that is about to be made.
pub(super) struct Descriptors<'a> {
    pub(super) stdio: [&'a OwnedFd; 3],
    pub(super) cgroup: Option<BorrowedFd<'a>>,
    pub(super) report: Option<&'a OwnedFd>,
}

impl Image {
    /// Fails for a text with a zero byte in it.
    pub(super) fn new(
        job: &Command,
        environment: &Environment<'_>,
        working_dir: &Path,
        user: Option<&RunAs>,
        descriptors: &Descriptors<'_>,
    ) -> io::Result<Self> {
        let arguments = std::iter::once(&job.cmd).chain(&job.args).map(text);
        let variables =
            environment.iter().map(|(name, value)| bytes([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Self {
            programs: programs(
                &job.cmd,
                environment.get("PATH").and_then(|path| path.to_str()).unwrap_or_default(),
            )?,
            arguments: List::new(arguments.collect::<io::Result<_>>()?),
            environment: List::new(variables.collect::<io::Result<_>>()?),
            working_dir: text(working_dir)?,
            stdio: descriptors.stdio.map(AsRawFd::as_raw_fd),
            cgroup: descriptors.cgroup.as_ref().map(AsRawFd::as_raw_fd),
            user: user.map(RunAs::raw),
            report: descriptors.report.map(AsRawFd::as_raw_fd),
            problem: AtomicI32::new(0),
        })
    }
}

impl List {
    fn new(strings: Vec<CString>) -> Self {
        let addresses = strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { addresses, _strings: strings }
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.addresses.as_ptr()
    }
}

/// Where a program may be: at its path, or, for a bare name, in the directories of the job's own `PATH`.
fn programs(cmd: &str, path: &str) -> io::Result<Vec<CString>> {
    if cmd.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if cmd.contains('/') {
        return Ok(vec![text(cmd)?]);
    }
    path.split(':').map(|dir| text(&Path::new(if dir.is_empty() { "." } else { dir }).join(cmd))).collect()
}

fn text(text: &(impl AsRef<OsStr> + ?Sized)) -> io::Result<CString> {
    bytes(text.as_ref().as_bytes().to_vec())
}

fn bytes(bytes: Vec<u8>) -> io::Result<CString> {
    let refused = |_| io::Error::new(io::ErrorKind::InvalidInput, "nul byte found in provided data");
    CString::new(bytes).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_are_looked_for() {
        let check = |cmd: &str, path: &str, expected: &[&str]| {
            let found = programs(cmd, path).expect("texts");
            let found: Vec<_> = found.iter().map(|program| program.to_str().expect("text")).collect();
            assert_eq!(found, expected, "{cmd} in {path}");
        };
        check("sh", "/usr/bin:/bin", &["/usr/bin/sh", "/bin/sh"]);
        check("./sh", "/bin", &["./sh"]);
        check("sh", ":/bin", &["./sh", "/bin/sh"]);
        assert_eq!(programs("", "/bin").expect_err("no program").kind(), io::ErrorKind::NotFound);
        assert_eq!(programs("a\0b", "/bin").expect_err("no text").kind(), io::ErrorKind::InvalidInput);
    }
}
