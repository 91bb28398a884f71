//! A job that is kept running: one copy of it, whatever is killed, edited or deleted.
//!
//! The program of these stories takes a lock while it runs: a second copy cannot get it and says so.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    on_both,
    process::signal,
    split::Split,
    world::{Database, World},
};

on_both! {
    a_daemon_starts_by_itself_and_again_when_it_ends,
    a_server_killed_while_a_daemon_runs_starts_no_second_copy,
    a_daemon_that_ends_while_no_server_runs_is_started_again,
    an_agent_killed_under_a_daemon_starts_it_again,
    a_daemon_that_may_still_run_waits_for_a_person,
    an_edited_job_replaces_its_daemon,
    a_daemon_ends_with_its_trigger,
}

/// Says its name and its pid once it has the lock, and runs until [`exits`] says how it shall end, or the story is over.
fn keeps(name: &str, daemon: &str) -> String {
    let script = format!(
        "exec 9>>$DIR/lock; flock -n 9 || {{ echo second >> $DIR/effects; exit 9; }}; \
         echo {name} $$ >> $DIR/effects; \
         while [ ! -e $DIR/exit-{name} ]; do [ -d $DIR ] || exit 0; sleep 0.05 9>&-; done; \
         code=$(cat $DIR/exit-{name}); rm $DIR/exit-{name}; exit $code"
    );
    format!("[on.daemon]\n{daemon}\n\n[job]\ncmd = \"sh\"\nargs = [\"-c\", '''{script}''']\n")
}

/// What runs under this name exits with the code, once.
fn exits(world: &World, name: &str, code: u8) {
    let fresh = world.dir.path().join("exit.new");
    fs::write(&fresh, code.to_string()).expect("written");
    fs::rename(fresh, world.dir.path().join(format!("exit-{name}"))).expect("renamed");
}

/// The `n`th line of effects, counted from 1: what started and under which pid.
async fn nth(world: &World, n: usize) -> (String, u32) {
    let effects = world.effects_until(n).await;
    assert!(!effects.iter().any(|effect| effect == "second"), "{effects:?}");
    let (name, pid) = effects[n - 1].split_once(' ').expect("a name and a pid");
    (name.to_owned(), pid.parse().expect("a pid"))
}

async fn schedule(world: &World) -> Value {
    world.get("schedules?limit=10").await["items"][0].clone()
}

async fn state(world: &World, state: &str) -> Value {
    world
        .until(&format!("the daemon is {state}"), async |world| {
            let schedule = schedule(world).await;
            (schedule["daemon"]["state"] == state).then_some(schedule)
        })
        .await
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn a_daemon_starts_by_itself_and_again_when_it_ends(database: Database) {
    let world =
        World::dev(database, &[("consumer", &keeps("one", "restart = \"on-failure\"\nbackoff = \"3s\""))])
            .await;
    let (_, first) = nth(&world, 1).await;
    let running = state(&world, "running").await;
    assert_eq!(
        (&running["daemon"]["restarts"], running.get("next_run_at")),
        (&0.into(), None),
        "{running:#}"
    );
    let (_, next, _) = world.cli(&["schedule", "next", "consumer"]).await;
    assert!(next.contains("daemon 1") && next.contains("runs since"), "{next}");

    exits(&world, "one", 3);
    let waits = state(&world, "restarting").await;
    assert!(waits["next_run_at"].is_string() && waits["daemon"]["outcome"]["exit_code"] == 3, "{waits:#}");
    let ended = waits["daemon"]["task_id"].as_str().expect("a task").to_owned();
    let (_, second) = nth(&world, 2).await;
    assert_ne!(first, second);
    let running = state(&world, "running").await;
    assert_eq!(running["daemon"]["restarts"], 1);
    // Not sooner than it was told.
    let ended = world.get(&format!("tasks/{ended}")).await;
    let at = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let run = world.get(&format!("tasks/{}", running["daemon"]["task_id"].as_str().expect("a task"))).await;
    let waited = at(&run["scheduled_at"]).duration_since(at(&ended["finished_at"]));
    assert!(waited.as_secs() >= 3, "{waited:#}");
    // A second copy is not made by hand either.
    let (code, _, said) = world.cli(&["task", "retry", ended["id"].as_str().expect("an id")]).await;
    assert!(code == Some(6) && said.contains("another run"), "{said}");
    let (_, shown, _) = world.cli(&["task", "show", ended["id"].as_str().expect("an id")]).await;
    assert!(shown.contains("runs since") && shown.contains("restart 1"), "{shown}");

    exits(&world, "one", 0);
    let stopped = state(&world, "stopped").await;
    assert_eq!(stopped.get("next_run_at"), None);
    let last = stopped["daemon"]["task_id"].as_str().expect("a task");
    let (code, _, said) = world.cli(&["task", "retry", last]).await;
    assert_eq!(code, Some(0), "{said}");
    nth(&world, 3).await;
}

async fn a_server_killed_while_a_daemon_runs_starts_no_second_copy(database: Database) {
    let mut split = Split::start(database, &[("consumer", &keeps("one", ""))]).await;
    split.agent("worker", &[]).await;
    let (_, pid) = nth(&split.world, 1).await;
    let task = state(&split.world, "running").await["daemon"]["task_id"].clone();
    for _ in 0..2 {
        split.world.server.kill().await;
        split.restart_server().await;
        let online =
            async |world: &World| (world.get("agents/worker").await["connection"] == "online").then_some(());
        split.world.until("the agent is back", online).await;
        assert_eq!(state(&split.world, "running").await["daemon"]["task_id"], task);
    }
    assert!(runs(pid));
    assert_eq!(split.world.effects().len(), 1);
    // It is the one that is followed by the next.
    exits(&split.world, "one", 0);
    split.world.task_until(task.as_str().expect("an id"), "succeeded").await;
    nth(&split.world, 2).await;
}

async fn a_daemon_that_ends_while_no_server_runs_is_started_again(database: Database) {
    let mut split = Split::start(database, &[("consumer", &keeps("one", ""))]).await;
    split.agent("worker", &[]).await;
    let (_, pid) = nth(&split.world, 1).await;
    split.world.server.kill().await;
    exits(&split.world, "one", 1);
    split.world.until("it has ended", async |_| (!runs(pid)).then_some(())).await;
    split.restart_server().await;
    assert_ne!(nth(&split.world, 2).await.1, pid);
}

async fn an_agent_killed_under_a_daemon_starts_it_again(database: Database) {
    let mut split = Split::start(database, &[("consumer", &keeps("one", ""))]).await;
    split.agent("worker", &[]).await;
    let (_, first) = nth(&split.world, 1).await;
    let task = state(&split.world, "running").await["daemon"]["task_id"].clone();
    split.kill_agent("worker").await;
    split.agent("worker", &[]).await;
    // Its process is killed before the next one starts: that one gets the lock.
    let (_, second) = nth(&split.world, 2).await;
    assert!(!runs(first) && first != second);
    let lost = split.world.get(&format!("tasks/{}", task.as_str().expect("an id"))).await;
    assert_eq!((&lost["status"], &lost["outcome"]["gone"]), (&"lost".into(), &true.into()), "{lost:#}");
    assert_eq!(lost.get("waiting"), None);
    let (_, held, _) = split.world.cli(&["task", "list", "--held"]).await;
    assert!(held.contains("No task is like that"), "{held}");
    assert_eq!(state(&split.world, "running").await["daemon"]["restarts"], 1);
}

async fn a_daemon_that_may_still_run_waits_for_a_person(database: Database) {
    let settings = [("AGENTS__HEARTBEAT", "1s"), ("AGENTS__LEASE", "3s"), ("AGENTS__RESUME", "1s")];
    let mut split = Split::with(database, &[("consumer", &keeps("one", ""))], &settings).await;
    split.agent("worker", &[]).await;
    let (_, pid) = nth(&split.world, 1).await;
    split.link.cut();
    let held = state(&split.world, "held").await;
    // It runs all the while, and an edit starts nothing beside it, on no agent.
    split.world.write_trigger("consumer", &keeps("two", ""));
    let revised = async |world: &World| (world.get("triggers/consumer").await["revision"] == 2).then_some(());
    split.world.until("revision 2", revised).await;
    assert!(runs(pid));
    split.mend_link();
    // The agent hears that the attempt is not its any more, and ends it.
    split.world.until("the old run is ended", async |_| (!runs(pid)).then_some(())).await;
    assert_eq!(schedule(&split.world).await["daemon"]["state"], "held");
    let task = held["daemon"]["task_id"].as_str().expect("a task");
    let (_, listed, _) = split.world.cli(&["task", "list", "--held"]).await;
    assert!(listed.contains(task), "{listed}");
    assert_eq!(split.world.effects().len(), 1);

    // A person settles it: what is wanted by now starts.
    let (code, _, said) = split.world.cli(&["task", "retry", task]).await;
    assert_eq!(code, Some(0), "{said}");
    let two = async |world: &World| world.effects().iter().any(|line| line.starts_with("two")).then_some(());
    split.world.until("the new job", two).await;
    assert!(!split.world.effects().iter().any(|line| line == "second"));
}

async fn an_edited_job_replaces_its_daemon(database: Database) {
    let one = keeps("one", "");
    let world = World::dev(database, &[("consumer", &one)]).await;
    let (_, first) = nth(&world, 1).await;
    let before = state(&world, "running").await;
    // Words for people, the rule, and an entry beside it, change nothing about what runs.
    world.write_trigger(
        "consumer",
        &format!(
            "description = \"other words\"\n{}",
            keeps("one", "backoff = \"2s\"").replace("[job]", "[on.event]\ntype = \"consume\"\n\n[job]")
        ),
    );
    let revised = async |world: &World| (world.get("triggers/consumer").await["revision"] == 2).then_some(());
    world.until("revision 2", revised).await;
    let waits_for_none = async |world: &World| {
        let items = world.get("schedules?limit=10").await;
        let daemon = items["items"].as_array()?.iter().find(|one| one["kind"] == "daemon")?.clone();
        (daemon["spec"]["backoff"] == 2 && daemon.get("next_run_at").is_none()).then_some(daemon)
    };
    let after = world.until("the new rule is in force", waits_for_none).await;
    assert_eq!(after["daemon"]["task_id"], before["daemon"]["task_id"]);
    assert!(runs(first));

    world.write_trigger("consumer", &keeps("two", ""));
    let (name, second) = nth(&world, 2).await;
    assert!(name == "two" && !runs(first) && runs(second));
    world.task_until(before["daemon"]["task_id"].as_str().expect("an id"), "cancelled").await;
    assert_eq!(state(&world, "running").await["daemon"]["restarts"], 0);

    // A kill from outside is an end like any other.
    signal(second, "KILL");
    let (name, third) = nth(&world, 3).await;
    assert!(name == "two" && third != second);
}

async fn a_daemon_ends_with_its_trigger(database: Database) {
    let world = World::dev(database, &[("consumer", &keeps("one", ""))]).await;
    let (_, pid) = nth(&world, 1).await;
    let task = state(&world, "running").await["daemon"]["task_id"].clone();
    world.remove_trigger("consumer");
    world.task_until(task.as_str().expect("an id"), "cancelled").await;
    assert!(!runs(pid));
    world.write_trigger("consumer", &keeps("one", ""));
    assert_ne!(nth(&world, 2).await.1, pid);
    assert_eq!(world.effects().len(), 2);
}
