//! What units of systemd rely on: `Type=notify`, and a clean end at SIGTERM. The socket is systemd's place, held by the test.

use std::fs;

use tokio::{net::UnixDatagram, time::timeout};

use crate::process::{PATIENCE, Process};

async fn told(socket: &UnixDatagram, process: &Process) -> String {
    let mut text = [0; 512];
    let Ok(length) = timeout(PATIENCE, socket.recv(&mut text)).await else {
        panic!("it tells nothing; it said:\n{}", process.said())
    };
    String::from_utf8_lossy(&text[..length.expect("received")]).trim().to_owned()
}

#[tokio::test]
async fn each_program_says_when_it_is_ready_and_when_it_stops() {
    for program in ["hetuflow", "hetuflow-server", "hetuflow-agent"] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let socket = UnixDatagram::bind(path("notify")).expect("bound");
        fs::create_dir(path("triggers")).expect("made");
        fs::write(path("server.toml"), "").expect("written");
        let any = || "127.0.0.1:0".to_owned();
        let environment = [
            ("NOTIFY_SOCKET", path("notify")),
            ("DATABASE_URL", format!("sqlite:{}", path("hetuflow.db"))),
            ("HETUFLOW_SERVER__TRIGGERS__DIRECTORY", path("triggers")),
            ("HETUFLOW_SERVER__SERVER__HTTP_PORT", any()),
            ("HETUFLOW_SERVER__SERVER__WEBSOCKET_PORT", any()),
            ("HETUFLOW_SERVER__SERVER__HOOK_PORT", any()),
            ("HETUFLOW_AGENT__AGENT__DATA_DIR", path("agent")),
            // Nobody listens there: an agent is ready all the same, and dials on.
            ("HETUFLOW_AGENT__AGENT__SERVER_URL", "ws://127.0.0.1:1".to_owned()),
        ];
        let config = path("server.toml");
        let args: &[&str] = if program == "hetuflow" { &["up", "--config", &config] } else { &[] };
        let mut process = Process::start(program, args, &environment);
        assert_eq!(told(&socket, &process).await, "READY=1", "{program}");
        assert_eq!(process.stop().await, Some(0), "{program}: {}", process.said());
        assert_eq!(told(&socket, &process).await, "STOPPING=1", "{program}");
    }
}
