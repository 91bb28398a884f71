//! A start that hangs, because a file system does not answer: it holds up nobody but itself.

use std::{
    ffi::CString,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use hetuflow_core::{protocol::ToAgent, task::EndReason};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::world::{World, script};

/// A file system of which nobody answers for anything.
struct Hung {
    at: PathBuf,
    _questions: File,
}

impl Hung {
    /// `None` where this user may not.
    fn mount(at: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd;
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        fs::create_dir(at).expect("made");
        let questions = File::options().read(true).write(true).open("/dev/fuse").expect("opened");
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", questions.as_raw_fd());
        let data = CString::new(data).expect("text");
        mount("nobody", at, "fuse", MountFlags::empty(), &*data).expect("mounted");
        Some(Self { at: at.to_owned(), _questions: questions })
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_is_given_up() {
    let world = World::new().await;
    let Some(hung) = Hung::mount(&world.path("far")) else {
        #[expect(clippy::print_stderr, reason = "whoever runs it shall see that it did not")]
        {
            eprintln!("NOT TESTED: hang::a_start_that_hangs_is_given_up needs root");
        }
        return;
    };
    let agent = world.agent();
    let mut server = world.session().await;
    let ran = world.path("ran");
    let far = |timeout: Option<Duration>| {
        let mut run = script(&format!("touch {}", ran.display()));
        run.command.working_dir = Some(hung.at.display().to_string());
        run.command.timeout = timeout;
        run
    };

    let slow = far(Some(Duration::from_millis(100)));
    server.run(&slow).await;
    let (result, _) = server.result(slow.lease).await;
    assert_eq!(result.outcome.reason, EndReason::Timeout);
    let message = result.outcome.message.unwrap_or_default();
    // No start hangs before.
    assert!(message.starts_with("not started within 5s"), "{message}");
    server.acknowledge(slow.lease).await;

    let unwanted = far(None);
    server.run(&unwanted).await;
    server.say(ToAgent::Cancel { lease: unwanted.lease }).await;
    let (result, _) = server.result(unwanted.lease).await;
    assert_eq!(result.outcome.reason, EndReason::Cancelled);
    server.acknowledge(unwanted.lease).await;

    let other = script("exit 3");
    server.run(&other).await;
    let (result, _) = server.result(other.lease).await;
    assert_eq!(result.outcome.exit_code, Some(3));
    server.acknowledge(other.lease).await;
    drop(hung);
    agent.stop().await;
    assert!(!ran.exists());
}
