//! The watcher on file systems that are mounted for it: a remote one of our own, whose answers can be held back, and those
//! of the kernel. Each test runs once more in a process with mounts of its own, which go with it however it ends.

mod fanotify;
mod far;
mod hang;
mod polling;
mod replaced;
#[path = "../watch/world.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod world;

use std::io::Write;

/// Set in the process that has mounts of its own.
const OWN: &str = "HETUFLOW_TEST_OWN_MOUNTS";

/// Runs the test of this name where it may mount; `true`: this is there. A machine on which nobody may mount runs none of
/// them, and says so loudly; for root that is a failure.
fn has_own_mounts(name: &str) -> bool {
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    let is_root = rustix::process::geteuid().is_root();
    let user: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
    let own = std::env::current_exe().expect("this program");
    #[expect(clippy::disallowed_methods, reason = "the same test in a namespace of its own")]
    let mut command = std::process::Command::new("unshare");
    command.args(user).args(["--mount", "--propagation", "private"]);
    let output = command.arg(own).args(["--exact", name, "--nocapture"]).env(OWN, "yes").output();
    let said = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let passed = said.as_ref().is_ok_and(|said| said.contains("1 passed"));
    if !passed && !is_root && said.as_ref().is_ok_and(|said| !said.contains("running 1 test")) {
        let mut loud = std::io::stderr();
        let _ =
            writeln!(loud, "NOT TESTED: {name} needs root, or user namespaces that may mount: {output:?}");
        return false;
    }
    assert!(passed, "{output:#?}");
    false
}
