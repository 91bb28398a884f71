//! A child process of a test: its output is read line by line and kept, and it never outlives the test.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// How long a story waits for something that must happen. Far above what it takes, because machines are shared.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    seen: watch::Receiver<usize>,
}

impl Process {
    /// Starts `program` with a cleared environment but for `PATH`, `HETUFLOW_LOG` and what is given.
    #[expect(clippy::disallowed_methods, reason = "a test starts the product's own binaries")]
    pub(crate) fn start<A: AsRef<OsStr>>(program: &str, args: &[A], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary(program));
        command.args(args).env_clear().envs(environment.iter().map(|(k, v)| (k, v)));
        for passed_on in ["PATH", "HETUFLOW_LOG"] {
            if let Some(value) = std::env::var_os(passed_on) {
                command.env(passed_on, value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (count, seen) = watch::channel(0);
        let count = Arc::new(count);
        collect(child.stdout.take().expect("stdout is piped"), &lines, &count);
        collect(child.stderr.take().expect("stderr is piped"), &lines, &count);
        Self { name: program.to_owned(), child, lines, seen }
    }

    /// The first line, now or later, for which `pick` finds something.
    pub(crate) async fn line<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let search = async {
            loop {
                let found = self.lines.lock().expect("not poisoned").iter().find_map(|line| pick(line));
                if let Some(found) = found {
                    return Some(found);
                }
                if self.seen.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => panic!("{} never said {what}; it said:\n{}", self.name, self.said()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn said(&self) -> String {
        self.lines.lock().expect("not poisoned").join("\n")
    }

    /// `kill -9`: no chance to clean up.
    pub(crate) async fn kill(&mut self) {
        self.child.start_kill().expect("it runs");
        self.child.wait().await.expect("it can be reaped");
    }

    /// `SIGTERM`, and the exit code once it has drained.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        signal(self.id(), "TERM");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        status
            .unwrap_or_else(|_| panic!("{} did not stop; it said:\n{}", self.name, self.said()))
            .expect("reaped")
            .code()
    }
}

/// Runs a program to its end: exit code, standard output, standard error.
#[expect(clippy::disallowed_methods, reason = "a test starts the product's own binaries")]
pub(crate) async fn run(program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary(program)).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[expect(clippy::disallowed_methods, reason = "kill(1) needs no unsafe code")]
pub(crate) fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.expect("kill(1) runs").success(), "cannot send {name} to {pid}");
}

/// A binary of this workspace: all of them lie beside each other.
fn binary(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_hetuflow")).with_file_name(name);
    assert!(path.exists(), "{} is not built: run the tests with `cargo xtask test`", path.display());
    path
}

fn collect(
    source: impl AsyncRead + Unpin + Send + 'static,
    lines: &Arc<Mutex<Vec<String>>>,
    count: &Arc<watch::Sender<usize>>,
) {
    let (lines, count) = (Arc::clone(lines), Arc::clone(count));
    tokio::spawn(async move {
        let mut source = BufReader::new(source).lines();
        while let Ok(Some(line)) = source.next_line().await {
            lines.lock().expect("not poisoned").push(line);
            count.send_modify(|count| *count += 1);
        }
    });
}
