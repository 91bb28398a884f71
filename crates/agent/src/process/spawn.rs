//! Starts the process of one attempt: everything that can be refused is refused before the fork.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use hetuflow_core::{job::ResourceLimits, protocol::Assignment};
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessGroup};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::unix::AsyncFd,
    process::{ChildStderr, ChildStdout, Command},
};

use super::{Leaf, ProcessId, RunAs, Tree, environment, procfs, raw, user};
use crate::workplace::{Workplace, WorkplaceError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error(transparent)]
    User(#[from] user::UserError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error("working_dir {} is not a directory that the agent can enter", .0.display())]
    WorkingDir(PathBuf),
    #[error("cannot start {cmd:?}: {source}")]
    Start { cmd: String, source: io::Error },
    #[error("the agent failed while it started the process; its log says more")]
    Defect,
}

/// A process that was started. It is a zombie at worst until [`Running::reap`], so its pid and its
/// group stay its own.
#[derive(Debug)]
pub(crate) struct Running {
    child: Box<dyn ChildWrapper>,
    pidfd: AsyncFd<OwnedFd>,
    pub(crate) id: ProcessId,
    pub(crate) tree: Tree,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// How the first process of the tree ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    Signal(i32),
}

/// Blocks: looks users up, makes directories and forks.
pub(crate) fn spawn(
    assignment: &Assignment,
    body: &[u8],
    place: &Workplace,
    leaf: Option<Leaf>,
) -> Result<Running, SpawnError> {
    let job = &assignment.command;
    let run_as = job.user.as_deref().map(RunAs::look_up).transpose()?.flatten();
    place.prepare(body, job.stdin.as_deref(), run_as.as_ref().map(RunAs::ids))?;
    let working_dir = job.working_dir.as_ref().map_or_else(|| place.working_dir(), PathBuf::from);
    if !working_dir.is_dir() {
        return Err(SpawnError::WorkingDir(working_dir));
    }
    let (leaf, procs) = open_leaf(leaf, job.resource_limits.as_ref());
    let failed = |source| SpawnError::Start { cmd: job.cmd.clone(), source };
    let mut command = CommandWrap::with_new(&job.cmd, |command| {
        command.args(&job.args).current_dir(&working_dir).env_clear();
        command.envs(environment::of(assignment, place, &user::home(run_as.as_ref())));
        output(command, job.capture_output);
    });
    command
        .command_mut()
        .stdin(stdin(job.stdin.as_ref().map(|_| place.stdin_file()).as_deref()).map_err(failed)?);
    raw::prepare(command.command_mut(), procs, run_as);
    let spawned = command.wrap(ProcessGroup::leader()).spawn();
    let tree = Tree { instance_id: assignment.lease.instance_id, leader: None, leaf };
    let child = match spawned {
        Ok(child) => child,
        Err(source) => {
            if let Some(leaf) = &tree.leaf {
                leaf.remove();
            }
            return Err(failed(source));
        }
    };
    watch(child, tree).map_err(failed)
}

impl Running {
    /// Waits until the process has ended, without taking its pid away.
    pub(crate) async fn ended(&self) {
        // An error here would mean that the runtime is gone; waiting for the process still works.
        let _ = self.pidfd.readable().await;
    }

    /// Takes the exit status. From here on the pid may be anyone's.
    pub(crate) async fn reap(&mut self) -> io::Result<Ended> {
        self.child.wait().await.map(Ended::from)
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Exit(-1),
        }
    }
}

fn watch(mut child: Box<dyn ChildWrapper>, tree: Tree) -> io::Result<Running> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
    let id = procfs::stat(pid).ok_or(io::ErrorKind::NotFound)?.id;
    let fd = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = raw::register(pidfd_open(fd, PidfdFlags::empty())?)?;
    let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
    Ok(Running { child, pidfd, id, tree: Tree { leader: Some(id), ..tree }, stdout, stderr })
}

/// A host may refuse a leaf that it offered at the start; the attempt runs without, and says so.
fn open_leaf(leaf: Option<Leaf>, limits: Option<&ResourceLimits>) -> (Option<Leaf>, Option<File>) {
    let opened = leaf.and_then(|leaf| match leaf.open() {
        Ok(procs) => Some((leaf, procs)),
        Err(error) => {
            tracing::warn!(cgroup = %leaf.path().display(), %error, "no cgroup for this attempt");
            None
        }
    });
    let missing = match (&opened, limits) {
        (Some((leaf, _)), Some(limits)) => leaf.limit(limits),
        (None, Some(limits)) if limits.max_memory_mb.is_some() || limits.max_cpu_percent.is_some() => {
            vec!["max_memory_mb", "max_cpu_percent"]
        }
        _ => Vec::new(),
    };
    if !missing.is_empty() {
        tracing::warn!(limits = ?missing, "this host offers no cgroup controller for these limits of the job");
    }
    opened.unzip()
}

fn output(command: &mut Command, capture: bool) {
    let to = || if capture { Stdio::piped() } else { Stdio::null() };
    command.stdout(to()).stderr(to());
}

fn stdin(file: Option<&Path>) -> io::Result<Stdio> {
    file.map_or_else(|| Ok(Stdio::null()), |path| File::open(path).map(Stdio::from))
}
