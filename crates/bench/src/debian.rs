//! Debian's `webhook`: the peer of all that receives webhooks. It checks the same signature, starts the same program, and
//! keeps nothing.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use rustix::process::geteuid;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, interval},
};

use crate::{
    child::{Child, Drained, Voice, command},
    payload,
    report::Report,
};

pub(crate) const NAME: &str = "Debian's webhook";

const PROGRAM: &str = "/usr/bin/webhook";
const START_WITHIN: Duration = Duration::from_secs(30);

/// Installs it where that can be done.
pub(crate) async fn install() {
    if Path::new(PROGRAM).exists() || !geteuid().is_root() {
        return;
    }
    eprintln!("installing Debian's webhook");
    let install = ["install", "--yes", "--no-install-recommends", "webhook"];
    // Without it the others are measured alone, and the report says so.
    let _ = command(Path::new("apt-get")).args(install).stdout(std::process::Stdio::null()).status().await;
}

/// Whether it is here; the report says when it is not.
pub(crate) fn present(report: &mut Report) -> bool {
    let present = Path::new(PROGRAM).exists();
    if !present {
        report.note("Debian's webhook is not here and was left out: `apt-get install webhook`");
    }
    present
}

/// With one hook, `bench`, that starts `job` when the signature and all of `rules` hold.
pub(crate) async fn start(
    folder: &Path,
    job: &str,
    arguments: &[Value],
    rules: &[Value],
) -> anyhow::Result<(Drained, SocketAddr)> {
    let signed = json!({"match": {
        "type": "payload-hmac-sha256",
        "secret": payload::SECRET,
        "parameter": {"source": "header", "name": "X-Hub-Signature-256"},
    }});
    let rules: Vec<&Value> = std::iter::once(&signed).chain(rules).collect();
    let hooks = json!([{
        "id": "bench",
        "execute-command": job,
        "command-working-directory": folder,
        "pass-arguments-to-command": arguments,
        "trigger-rule": {"and": rules},
    }]);
    let file = folder.join("hooks.json");
    fs::write(&file, hooks.to_string())?;
    // It takes no socket and tells no port: one that is free now must do.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = address.port().to_string();
    let args = ["-hooks", &file.display().to_string(), "-ip", "127.0.0.1", "-port", &port];
    let process = Child::start(Path::new(PROGRAM), args, &[], Voice::Stderr)?.drain();
    let (deadline, mut look) = (Instant::now() + START_WITHIN, interval(Duration::from_millis(20)));
    while TcpStream::connect(address).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "Debian's webhook does not listen");
        look.tick().await;
    }
    Ok((process, address))
}
