//! Everything that one attempt has started, and its end. Where the attempt has a cgroup, the kernel keeps the list
//! and kills it at one word. Where not, two searches through `/proc` make do, each with a hole: the process group
//! (a `setsid` leaves it) and the marker in the environment (a cleared environment lacks it).

use std::time::Duration;

use hetuflow_core::id::InstanceId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{task::spawn_blocking, time::Instant};

use super::{MARKER, ProcessId, cgroup::Leaf, procfs};

/// Between two looks at what is left. Killed processes are gone within a few.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Between two looks at processes that were asked to end.
const LOOK_PATIENTLY: Duration = Duration::from_millis(25);

/// For so long it counts that a process, whoever's it is, cannot say to whom it belongs; that takes it far less.
const UNSURE: Duration = Duration::from_millis(250);

/// A process that does not die of SIGKILL waits in the kernel, for a disk or a network file system.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is left of an attempt.
#[derive(Debug, Default)]
enum Left {
    #[default]
    Nothing,
    Some,
    /// Nothing that is known to be its own.
    Unsure,
}

#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) instance_id: InstanceId,
    pub(crate) leader: Option<ProcessId>,
    pub(crate) leaf: Option<Leaf>,
}

/// What one look through `/proc` finds.
#[derive(Debug, Default)]
struct Look {
    members: Vec<ProcessId>,
    /// Processes that were just becoming another program.
    unsure: usize,
}

/// Processes that SIGKILL did not end in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} processes did not end although they were killed; one is {example}")]
pub(crate) struct Survivors {
    count: usize,
    example: i32,
}

impl Tree {
    /// Kills everything and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<(), Survivors> {
        if self.leaf.as_ref().is_some_and(Leaf::is_deserted) {
            return Ok(());
        }
        let begin = Instant::now();
        loop {
            let tree = self.clone();
            let left = spawn_blocking(move || tree.kill_once()).await.unwrap_or_default();
            let Some(survivors) = left else { return Ok(()) };
            match begin.elapsed() {
                so_long if survivors.count == 0 && so_long > UNSURE => return Ok(()),
                so_long if so_long > PATIENCE => return Err(survivors),
                _ => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until everything has ended by itself.
    pub(crate) async fn gone(&self) {
        let mut unsure = 0;
        loop {
            let tree = self.clone();
            match spawn_blocking(move || tree.left()).await.unwrap_or_default() {
                Left::Nothing => return,
                Left::Unsure if unsure * LOOK_PATIENTLY > UNSURE => return,
                Left::Unsure => unsure += 1,
                Left::Some => unsure = 0,
            }
            tokio::time::sleep(LOOK_PATIENTLY).await;
        }
    }

    /// Kills what is there, and yields what it found.
    fn kill_once(&self) -> Option<Survivors> {
        if let Some(leaf) = &self.leaf {
            leaf.kill();
            match leaf.populated() {
                Some(true) => {
                    let left = leaf.processes();
                    return Some(Survivors {
                        count: left.len(),
                        example: left.first().copied().unwrap_or(0),
                    });
                }
                // Looking through /proc, which costs milliseconds on a large host, would find nothing more.
                Some(false) => {
                    leaf.remove();
                    return None;
                }
                None => {}
            }
        }
        let Look { members, unsure } = self.look();
        for member in &members {
            kill_exactly(*member);
        }
        let example = members.first().map_or(0, |example| example.pid);
        let left = !members.is_empty() || unsure > 0;
        left.then_some(Survivors { count: members.len(), example })
    }

    fn left(&self) -> Left {
        match self.leaf.as_ref().and_then(Leaf::populated) {
            Some(true) => Left::Some,
            Some(false) => Left::Nothing,
            None => match self.look() {
                Look { members, .. } if !members.is_empty() => Left::Some,
                Look { unsure: 0, .. } => Left::Nothing,
                Look { .. } => Left::Unsure,
            },
        }
    }

    fn look(&self) -> Look {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let marker = self.instance_id.to_string();
        let group = self.group();
        let mut look = Look::default();
        for stat in procfs::all().filter(|stat| !stat.zombie && stat.id.pid != own) {
            if Some(stat.group) == group {
                look.members.push(stat.id);
                continue;
            }
            match procfs::has_variable(&stat, MARKER, &marker) {
                Some(true) => look.members.push(stat.id),
                Some(false) => {}
                None => look.unsure += 1,
            }
        }
        look
    }

    /// The group is known by the pid of its leader, so it is ours only while that pid is the
    /// leader's (a dead one keeps it until it is waited for). Afterwards the number may be anyone's.
    fn group(&self) -> Option<i32> {
        let leader = self.leader?;
        procfs::stat(leader.pid).filter(|now| now.id == leader).map(|now| now.id.pid)
    }
}

/// Between the look at `/proc` and the signal the pid may pass to another process; a pidfd does not.
fn kill_exactly(id: ProcessId) {
    let Some(pid) = Pid::from_raw(id.pid) else { return };
    if let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
        && procfs::stat(id.pid).is_some_and(|now| now.id == id)
    {
        let _ = pidfd_send_signal(fd, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::CommandExt, path::Path, process::Stdio};

    use super::*;

    /// A group of three: one stays in the group and clears its environment, one leaves the group and
    /// keeps its environment, and the leader waits until both have told their pids.
    #[expect(clippy::disallowed_methods, reason = "the process module tries itself")]
    fn start(instance_id: InstanceId, pids: &Path) -> std::process::Child {
        let script = format!(
            "env -i sh -c 'echo $$; exec sleep 1000' >> {0} & setsid sh -c 'echo $$; exec sleep 1000' >> {0} &
             while [ $(wc -l < {0}) -lt 2 ]; do :; done; echo ready; wait",
            pids.display()
        );
        fs::write(pids, "").expect("written");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script]).env(MARKER, instance_id.to_string()).process_group(0);
        command.stdout(Stdio::piped()).spawn().expect("started")
    }

    #[tokio::test]
    async fn without_a_cgroup_the_group_and_the_marker_find_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let instance_id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        let mut leader = start(instance_id, &dir.path().join("pids"));
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut leader.stdout.take().expect("a pipe"), &mut ready).expect("ready");
        let pid = i32::try_from(leader.id()).expect("a pid");
        let tree = Tree { instance_id, leader: procfs::stat(pid).map(|stat| stat.id), leaf: None };
        // The last may just be becoming the program that sleeps.
        let found = std::iter::repeat_with(|| tree.look().members.len()).find(|found| *found >= 3);
        assert_eq!(found, Some(3));
        tree.kill().await.expect("gone");
        assert_eq!(tree.look().members, []);
        leader.wait().expect("waited for");
    }

    /// Each time it does, its environment cannot be read for a moment.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the process module tries itself")]
    fn one_that_becomes_another_program_again_and_again_is_never_overlooked() {
        let instance_id = InstanceId::at(jiff::Timestamp::UNIX_EPOCH);
        let mut command = std::process::Command::new("/bin/sh");
        let script = "exec sh -c \"$0\" \"$0\"";
        command.args(["-c", script, script]).env(MARKER, instance_id.to_string()).process_group(0);
        let mut child = command.spawn().expect("started");
        let tree = Tree { instance_id, leader: None, leaf: None };
        let overlooked = (0..500).find(|_| matches!(tree.left(), Left::Nothing));
        child.kill().expect("killed");
        child.wait().expect("waited for");
        assert_eq!(overlooked, None);
    }

    #[tokio::test]
    async fn a_group_of_another_process_is_not_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, theirs) =
            (InstanceId::at(jiff::Timestamp::MIN), InstanceId::at(jiff::Timestamp::UNIX_EPOCH));
        let mut leader = start(theirs, &dir.path().join("pids"));
        let pid = i32::try_from(leader.id()).expect("a pid");
        let leader_of_theirs = procfs::stat(pid).map(|stat| stat.id);
        let reused = leader_of_theirs.map(|id| ProcessId { start_time: id.start_time + 1, ..id });
        let tree = Tree { instance_id: ours, leader: reused, leaf: None };
        assert_eq!(tree.look().members, []);
        tree.kill().await.expect("nothing to do");
        assert!(leader.try_wait().expect("asked").is_none(), "it runs on");
        Tree { instance_id: theirs, leader: leader_of_theirs, leaf: None }.kill().await.expect("gone");
        leader.wait().expect("waited for");
    }
}
