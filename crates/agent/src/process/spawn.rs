//! Starts the process of one attempt: everything that can be refused is refused before the fork.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use hetuflow_core::{
    id::AgentId,
    job::{Command, ResourceLimits},
    protocol::Assignment,
};
use rustix::{
    io::retry_on_intr,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid},
};
use tokio::{io::unix::AsyncFd, net::unix::pipe::Receiver, runtime::Handle};

use super::{
    Cgroups, Leaf, RunAs, Tree,
    environment::{self, Environment},
    files,
    image::{Descriptors, Image},
    procfs, raw, user,
};
use crate::workplace::{Workplace, WorkplaceError};

/// What all processes of this agent are started with.
#[derive(Debug)]
pub(crate) struct Spawner {
    agent_id: AgentId,
    cgroups: Option<Cgroups>,
    /// Of the agent's own user.
    home: PathBuf,
    null: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is nothing to run for any more.
    #[error("{0}")]
    Superseded(String),
    #[error(transparent)]
    User(#[from] user::UserError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error("working_dir {} is not a directory that the agent can enter", .0.display())]
    WorkingDir(PathBuf),
    #[error("cannot start {cmd:?}: {source}")]
    Start { cmd: String, source: io::Error },
    #[error("it was not to start after all")]
    NotWanted,
    #[error("the agent failed while it started the process; its log says more")]
    Defect,
}

/// A process that was started. It is a zombie at worst until [`Running::reap`], so its pid and its
/// group stay its own.
#[derive(Debug)]
pub(crate) struct Running {
    pidfd: AsyncFd<OwnedFd>,
    pid: i32,
    pub(crate) tree: Tree,
    pub(crate) stdout: Option<Receiver>,
    pub(crate) stderr: Option<Receiver>,
}

/// How the first process of the tree ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    Signal(i32),
}

/// The ends of the pipes that stay with the agent, and what the process gets.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<(OwnedFd, OwnedFd)>,
    stderr: Option<(OwnedFd, OwnedFd)>,
}

impl Spawner {
    /// Looks at what this host offers. Blocks.
    pub(crate) fn new(agent_id: AgentId) -> io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?.into();
        Ok(Self { agent_id, cgroups: Cgroups::find(), home: user::own_home(), null })
    }

    pub(crate) const fn has_cgroups(&self) -> bool {
        self.cgroups.is_some()
    }

    /// The cgroup that an attempt will have, if any.
    pub(crate) fn leaf(&self, assignment: &Assignment) -> Option<Leaf> {
        let limits = assignment.command.resource_limits.as_ref();
        self.cgroups.as_ref().map(|cgroups| cgroups.leaf(assignment.lease.instance_id, limits))
    }

    /// Leaves nothing behind.
    pub(crate) fn close(&self) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove();
        }
    }

    /// Prepares all that the process needs, and starts it once `may_start` has said yes. Blocks: looks users up, makes
    /// directories, and waits for that answer and until the program runs.
    pub(crate) fn spawn(
        &self,
        assignment: &Assignment,
        body: &[u8],
        place: &Workplace,
        leaf: Option<Leaf>,
        may_start: impl FnOnce() -> bool,
    ) -> Result<Running, SpawnError> {
        let job = &assignment.command;
        let manifest = files::check(assignment, body, &self.agent_id).map_err(SpawnError::Superseded)?;
        let run_as = job.user.as_deref().map(RunAs::look_up).transpose()?.flatten();
        place.prepare(body, job.stdin.as_deref(), manifest.as_ref(), run_as.as_ref().map(RunAs::ids))?;
        let working_dir = match job.working_dir.as_ref().map(PathBuf::from) {
            Some(named) if !named.is_dir() => return Err(SpawnError::WorkingDir(named)),
            Some(named) => named,
            None => place.working_dir(),
        };
        let home = run_as.as_ref().map_or(&*self.home, RunAs::home);
        let environment = environment::of(assignment, place, home, manifest.as_ref());
        let leaf = open_leaf(leaf, job.resource_limits.as_ref());
        let tree = Tree { instance_id: assignment.lease.instance_id, leader: None, leaf };
        let stdin = job.stdin.as_ref().map(|_| place.stdin_file());
        let started = Pipes::open(job.capture_output, stdin.as_deref()).and_then(|pipes| {
            if !may_start() {
                return Ok(None);
            }
            let descriptors = (pipes.of_process(&self.null), &tree);
            let made = start(job, &environment, &working_dir, run_as.as_ref(), descriptors)?;
            watch(made, pipes, &tree).map(Some)
        });
        let problem = match started {
            Ok(Some(running)) => return Ok(running),
            Ok(None) => SpawnError::NotWanted,
            Err(source) => SpawnError::Start { cmd: job.cmd.clone(), source },
        };
        if let Some(leaf) = &tree.leaf {
            leaf.remove();
        }
        Err(problem)
    }
}

impl Running {
    /// Waits until the process has ended, without taking its pid away.
    pub(crate) async fn ended(&self) {
        // An error here would mean that the runtime is gone.
        let _ = self.pidfd.readable().await;
    }

    /// Asks its group to end.
    pub(crate) fn terminate(&self) {
        // It may have ended at this moment, but it keeps its number, and its group, until it is waited for.
        if let Some(group) = Pid::from_raw(self.pid) {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }

    /// Takes the exit status. From here on the pid may be anyone's.
    pub(crate) async fn reap(&mut self) -> io::Result<Ended> {
        loop {
            self.pidfd.readable().await?.retain_ready();
            let which = WaitId::PidFd(self.pidfd.get_ref().as_fd());
            if let Some(status) = waitid(which, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)? {
                return Ok(Ended::from(status));
            }
        }
    }
}

impl From<WaitIdStatus> for Ended {
    fn from(status: WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Exit(-1),
        }
    }
}

impl Pipes {
    fn open(capture: bool, stdin: Option<&Path>) -> io::Result<Self> {
        let pipe = || if capture { pipe_with(PipeFlags::CLOEXEC).map(Some) } else { Ok(None) };
        let stdin = stdin.map(|path| File::open(path).map(OwnedFd::from)).transpose()?;
        Ok(Self { stdin, stdout: pipe()?, stderr: pipe()? })
    }

    fn of_process<'a>(&'a self, null: &'a OwnedFd) -> [&'a OwnedFd; 3] {
        let end = |pipe: &'a Option<(OwnedFd, OwnedFd)>| pipe.as_ref().map_or(null, |(_, write)| write);
        [self.stdin.as_ref().unwrap_or(null), end(&self.stdout), end(&self.stderr)]
    }
}

/// Yields a process that has become its program.
fn start(
    job: &Command,
    environment: &Environment<'_>,
    working_dir: &Path,
    run_as: Option<&RunAs>,
    (stdio, tree): ([&OwnedFd; 3], &Tree),
) -> io::Result<raw::Made> {
    let pipe = run_as.map(|_| pipe_with(PipeFlags::CLOEXEC)).transpose()?;
    let (told, report) = pipe.unzip();
    let cgroup = tree.leaf.as_ref().and_then(Leaf::directory);
    let descriptors = Descriptors { stdio, cgroup, report: report.as_ref() };
    let image = Image::new(job, environment, working_dir, run_as, &descriptors)?;
    let made = raw::make(&image)?;
    drop(report);
    let problem = match told {
        None => image.problem.into_inner(),
        Some(told) => hear(&told).inspect_err(|_| undo(made.pid, tree))?,
    };
    if problem != 0 {
        waitid(WaitId::PidFd(made.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        return Err(io::Error::from_raw_os_error(problem));
    }
    Ok(made)
}

/// What a child that does not share this memory says of its way to its program; nothing once exec has closed its end.
fn hear(told: &OwnedFd) -> io::Result<i32> {
    let mut errno = [0; size_of::<i32>()];
    let read = retry_on_intr(|| rustix::io::read(told, &mut errno))?;
    Ok(if read == errno.len() { i32::from_ne_bytes(errno) } else { 0 })
}

/// A process that cannot be watched over does not run: who takes its start for a failure tries again.
fn watch(made: raw::Made, pipes: Pipes, tree: &Tree) -> io::Result<Running> {
    let pid = made.pid;
    // All descriptors are closed by then: that there are too many may be what is wrong.
    try_watch(made, pipes, tree).inspect_err(|_| undo(pid, tree))
}

fn try_watch(made: raw::Made, pipes: Pipes, tree: &Tree) -> io::Result<Running> {
    let receiver =
        |pipe: Option<(OwnedFd, OwnedFd)>| pipe.map(|(read, _)| Receiver::from_owned_fd(read)).transpose();
    // A cgroup finds all that is left of the attempt; who it was that started need not be known beside it.
    let leader = match &tree.leaf {
        Some(_) => None,
        None => Some(procfs::stat(made.pid).ok_or(io::ErrorKind::NotFound)?.id),
    };
    Ok(Running {
        pidfd: raw::register(made.pidfd)?,
        pid: made.pid,
        tree: Tree { leader, ..tree.clone() },
        stdout: receiver(pipes.stdout)?,
        stderr: receiver(pipes.stderr)?,
    })
}

/// Ends a process that was made just now, with all that it has started by itself. Blocks until it is gone.
fn undo(pid: i32, tree: &Tree) {
    // Nobody has waited for it, so the number is still its own, and its group's.
    let Some(process) = Pid::from_raw(pid) else { return };
    let _ = kill_process_group(process, Signal::KILL);
    let _ = kill_process(process, Signal::KILL);
    if let Err(survivors) = Handle::current().block_on(tree.kill()) {
        tracing::error!(instance.id = %tree.instance_id, %survivors, "a start that failed left processes behind");
    }
    let _ = retry_on_intr(|| waitid(WaitId::Pid(process), WaitIdOptions::EXITED));
}

/// A host may refuse a leaf that it offered at the start; the attempt runs without, and says so.
fn open_leaf(leaf: Option<Leaf>, limits: Option<&ResourceLimits>) -> Option<Leaf> {
    let opened = leaf.and_then(|leaf| match leaf.open() {
        Ok(()) => Some(leaf),
        Err(error) => {
            tracing::warn!(cgroup = %leaf.path().display(), %error, "no cgroup for this attempt");
            None
        }
    });
    let missing = match (&opened, limits) {
        (Some(leaf), Some(limits)) => leaf.limit(limits),
        (None, Some(limits)) if limits.max_memory_mb.is_some() || limits.max_cpu_percent.is_some() => {
            vec!["max_memory_mb", "max_cpu_percent"]
        }
        _ => Vec::new(),
    };
    if !missing.is_empty() {
        tracing::warn!(limits = ?missing, "this host offers no cgroup controller for these limits of the job");
    }
    opened
}

#[cfg(test)]
mod tests {
    use hetuflow_core::id::InstanceId;
    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;
    use crate::process::MARKER;

    #[tokio::test(flavor = "multi_thread")]
    #[expect(clippy::disallowed_methods, reason = "the process module tries itself")]
    async fn what_cannot_be_watched_over_does_not_run_on() {
        use std::os::unix::process::CommandExt;
        let instance_id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        let mut command = std::process::Command::new("/bin/sh");
        // Its child leaves the group.
        command.args(["-c", "setsid sleep 1000 & echo ready; wait"]).env(MARKER, instance_id.to_string());
        let mut child =
            command.process_group(0).stdout(std::process::Stdio::piped()).spawn().expect("started");
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut child.stdout.take().expect("a pipe"), &mut ready).expect("ready");
        let pid = i32::try_from(child.id()).expect("a pid");
        let tree = Tree { instance_id, leader: None, leaf: None };
        let pidfd = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("opened");
        // No pipe, so that the runtime refuses to read from it.
        let null = || OwnedFd::from(File::open("/dev/null").expect("opened"));
        let pipes = Pipes { stdin: None, stdout: Some((null(), null())), stderr: None };
        let of = tree.clone();
        let watched = tokio::task::spawn_blocking(move || watch(raw::Made { pid, pidfd }, pipes, &of));
        watched.await.expect("no panic").expect_err("it cannot be read from");
        assert!(procfs::stat(pid).is_none(), "it is waited for");
        tree.kill().await.expect("nothing is left");
        assert!(child.wait().is_err(), "it is nobody's child any more");
    }
}
