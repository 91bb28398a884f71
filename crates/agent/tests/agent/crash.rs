//! `kill -9` of a real agent while a job runs: the orphan is dead before its attempt is called lost.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::world::{Said, World, is_alive, lines, script};
use hetuflow_core::{protocol::HeldPhase, task::EndReason};
use rustix::process::{Pid, Signal, kill_process};

struct Daemon(Child);

impl Daemon {
    #[expect(clippy::disallowed_methods, reason = "the agent itself is what is started here")]
    fn start(world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_hetuflow-agent"))
            .env("SERVER_URL", world.url())
            .env("HETUFLOW_AGENT__AGENT__DATA_DIR", world.data_dir())
            .env("HETUFLOW_AGENT__LABELS__ROLE", "web")
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("started"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("waited for");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_killed_before_its_attempt_is_lost() {
    let world = World::new().await;
    let daemon = Daemon::start(&world);
    let mut server = world.session().await;
    assert_eq!(server.hello.labels.get("role").map(String::as_str), Some("web"));
    let pids = world.path("pids");
    // The second one has left the group, and neither ends when its output has nowhere to go.
    let run = script(&format!(
        "trap '' PIPE TERM; setsid sh -c 'trap \"\" PIPE; echo $$ >> {pids}; while :; do sleep 0.1; done' &
         echo $$ >> {pids}; echo before; while :; do sleep 0.1; done",
        pids = pids.display()
    ));
    server.run(&run).await;
    server.started(run.lease).await;
    server.until(|said| matches!(said, Said::Output { .. }).then_some(())).await;
    let pids = lines(&pids, 2).await;
    daemon.kill();
    assert!(pids.iter().all(|pid| is_alive(pid)), "they outlive the agent");

    let daemon = Daemon::start(&world);
    let mut server = world.connection().await;
    assert_eq!(server.hello.held.iter().map(|held| held.lease).collect::<Vec<_>>(), [run.lease]);
    server.welcome(Vec::new(), Vec::new()).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0, "gone before it is called lost");
    assert_eq!(result.outcome.reason, EndReason::Lost);
    assert_eq!(output, "before\n", "what it said until then is kept");
    server.acknowledge(run.lease).await;
    daemon.kill();
}

/// As when its host sleeps: what was sent to it meanwhile may have been given to another since.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_before_a_long_sleep_is_not_run() {
    let world = World::new().await;
    let daemon = Daemon::start(&world);
    let mut server = world.connection().await;
    server.welcome_with(Duration::from_millis(400), Vec::new(), Vec::new()).await;
    // It is welcome, and says so.
    server.next().await;
    daemon.signal(Signal::STOP);
    server.run(&script(&format!("touch {}", world.path("ran").display()))).await;
    // Two and a half heartbeats without a word are what it bears; that time has passed shows nowhere else.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    daemon.signal(Signal::CONT);
    let again = world.connection().await;
    assert_eq!(again.hello.held, [], "the old session's assignment is not taken");
    assert!(!world.path("ran").exists());
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_survives_the_agent() {
    let world = World::new().await;
    let daemon = Daemon::start(&world);
    let mut server = world.session().await;
    let run = script("exit 6");
    server.run(&run).await;
    server.result(run.lease).await;
    drop(server);
    // What it says in a hello is in its journal.
    drop(world.connection().await);
    daemon.kill();

    let daemon = Daemon::start(&world);
    let mut server = world.connection().await;
    assert_eq!(server.hello.held.iter().map(|held| held.phase).collect::<Vec<_>>(), [HeldPhase::Ended]);
    server.welcome(Vec::new(), Vec::new()).await;
    let (result, _) = server.result(run.lease).await;
    assert_eq!(result.outcome.exit_code, Some(6));
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_attempt_is_left_alone() {
    let world = World::new().await;
    let daemon = Daemon::start(&world);
    let mut server = world.session().await;
    let pids = world.path("pids");
    let run = script(&format!("echo $$ >> {}; exec sleep 1000", pids.display()));
    server.run(&run).await;
    server.started(run.lease).await;
    let pid = lines(&pids, 1).await.remove(0);
    daemon.kill();

    // As if the pid had passed to another process: its start time is another one, and neither the
    // marker nor the cgroup is the attempt's.
    let journal = world.data_dir().join("journal.db");
    let stranger = Stranger::start();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(journal);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("opened");
    sqlx::query("update attempt set pid = ?, start_time = 1")
        .bind(i64::from(stranger.0.id()))
        .execute(&pool)
        .await
        .expect("updated");
    pool.close().await;

    let daemon = Daemon::start(&world);
    let mut server = world.session().await;
    let (result, _) = server.result(run.lease).await;
    assert_eq!(result.outcome.reason, EndReason::Lost);
    assert!(!is_alive(&pid), "found by its marker");
    assert!(is_alive(&stranger.0.id().to_string()), "not ours");
    daemon.kill();
    assert!(fs::exists(world.data_dir().join("agent_id")).expect("readable"));
}

struct Stranger(Child);

impl Stranger {
    #[expect(clippy::disallowed_methods, reason = "a process that is none of the agent's")]
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("started"))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
