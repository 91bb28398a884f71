//! Files that wait on disk: in a strict order one at a time, over kills and failures; and while the server has enough.

use std::fs;

use crate::{
    on_both,
    split::Split,
    world::{Database, World},
};

on_both! { strict_files_go_one_at_a_time_also_over_a_kill, a_strict_file_that_fails_is_waited_for, files_wait_on_disk_while_the_server_has_enough }

async fn strict_files_go_one_at_a_time_also_over_a_kill(database: Database) {
    let text = r#"
[on.file]
paths  = ["inbox/*.csv"]
agents = { ingest = "yes" }
order  = { by = "path", strict = true }

[job]
cmd  = "sh"
args = ["-c", 'echo "start $HETUFLOW_FILE_NAME" >> $DIR/effects; sleep 0.02; echo "end $HETUFLOW_FILE_NAME" >> $DIR/effects']
max_retries    = 5
retry_interval = "10ms"
"#;
    let mut world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    let name = |number: u32| format!("{number:02}.csv");
    fs::write(inbox.join(name(0)), "1").expect("written");
    world.effects_until(1).await;
    for number in 1..20 {
        fs::write(inbox.join(name(number)), "1").expect("written");
    }
    world.effects_until(9).await;
    world.server.kill().await;
    world.restart().await;
    let ended = |effects: &[String]| effects.iter().filter(|line| line.starts_with("end")).count();
    let last = format!("end {}", name(19));
    let effects = world
        .until("all have ended", async |world| world.effects().contains(&last).then(|| world.effects()))
        .await;
    assert!(ended(&effects) >= 20, "{effects:?}");
    // Nobody begins before the one before has ended; one that the kill took begins again.
    let mut begun: Option<&str> = None;
    let mut order = Vec::new();
    for line in &effects {
        let (what, name) = line.split_once(' ').expect("two words");
        match what {
            "start" => {
                assert!(begun.is_none_or(|before| before == name), "{effects:#?}");
                begun = Some(name);
                order.push(name.to_owned());
            }
            _ => begun = begun.filter(|before| *before != name),
        }
    }
    order.dedup();
    assert_eq!(order, (0..20).map(name).collect::<Vec<_>>());
}

async fn a_strict_file_that_fails_is_waited_for(database: Database) {
    let text = r#"
[on.file]
paths  = ["inbox/*.csv"]
agents = { ingest = "yes" }
order  = { by = "path", strict = true, stuck_after = "1s" }

[job]
cmd  = "sh"
args = ["-c", 'test ! -e $DIR/broken && echo "$HETUFLOW_FILE_NAME" >> $DIR/effects']
"#;
    let stuck = "[on.event]\ntype = \"file.stuck\"\n[job]\ncmd = \"sh\"\nargs = [\"-c\", \
                 'echo stuck $NAME >> $DIR/effects']\nenvironment = { NAME = \"{{ file.path }}\" }\n";
    let world = World::dev(database, &[("import", text), ("alert", stuck)]).await;
    let inbox = world.data().join("inbox");
    let broken = world.dir.path().join("broken");
    fs::write(&broken, "").expect("written");
    fs::write(inbox.join("a.csv"), "1").expect("written");
    let failed = failed(&world).await;
    for name in ["b.csv", "c.csv"] {
        fs::write(inbox.join(name), "1").expect("written");
    }
    assert_eq!(world.effects_until(1).await, [format!("stuck {}", inbox.join("b.csv").display())]);
    let agents = world.get("agents").await;
    let agent = agents["items"][0]["id"].as_str().expect("an agent").to_owned();
    let (_, shown, _) = world.cli(&["agent", "show", &agent]).await;
    let event = failed["event_id"].as_str().expect("an event");
    assert!(shown.contains("2 behind others"), "{shown}");
    assert!(shown.contains(&format!("the task of event {event} comes before it and has failed")), "{shown}");
    assert_eq!(world.tasks().await.len(), 2, "nothing else has run");

    // A retry that fails again changes nothing; one that ends well lets the others go.
    let id = failed["id"].as_str().expect("an id");
    assert_eq!(world.cli(&["task", "retry", id]).await.0, Some(0));
    world.task_until(id, "failed").await;
    fs::remove_file(&broken).expect("removed");
    assert_eq!(world.cli(&["task", "retry", id]).await.0, Some(0));
    assert_eq!(world.effects_until(4).await[1..], ["a.csv", "b.csv", "c.csv"]);

    fs::write(&broken, "").expect("written");
    fs::write(inbox.join("d.csv"), "1").expect("written");
    let event = self::failed(&world).await["event_id"].as_str().expect("an event").to_owned();
    fs::write(inbox.join("e.csv"), "1").expect("written");
    fs::remove_file(&broken).expect("removed");
    assert_eq!(world.cli(&["event", "replay", &event]).await.0, Some(0));
    // The replay, and then the next one.
    let effects = world.effects_until(6).await;
    let ran: Vec<_> = effects[4..].iter().filter(|line| !line.starts_with("stuck")).collect();
    assert!(ran.starts_with(&[&"d.csv".to_owned()]), "{effects:?}");
    world
        .until("the last has run", async |world| world.effects().contains(&"e.csv".to_owned()).then_some(()))
        .await;

    // One that can never succeed is given up.
    let old = self::failed(&world).await["id"].clone();
    fs::write(&broken, "").expect("written");
    fs::write(inbox.join("f.csv"), "1").expect("written");
    let hopeless = async |world: &World| {
        let tasks = world.tasks().await;
        tasks.into_iter().find(|task| task["status"] == "failed" && task["id"] != old)
    };
    let hopeless = world.until("it has failed", hopeless).await["id"].as_str().expect("an id").to_owned();
    fs::write(inbox.join("g.csv"), "1").expect("written");
    fs::remove_file(&broken).expect("removed");
    assert_eq!(world.cli(&["task", "cancel", &hopeless]).await.0, Some(0));
    world
        .until("the next has run", async |world| world.effects().contains(&"g.csv".to_owned()).then_some(()))
        .await;
    assert!(!world.effects().contains(&"f.csv".to_owned()));
}

async fn files_wait_on_disk_while_the_server_has_enough(database: Database) {
    let text = r#"
[on.file]
paths   = ["inbox/*.csv"]
initial = "process"
limits  = { max_pending = 3 }

[job]
cmd    = "sh"
args   = ["-c", 'echo "$HETUFLOW_FILE_NAME" >> $DIR/effects']
labels = { role = "nobody" }
"#;
    let mut split = Split::start(database, &[("import", text)]).await;
    let inbox = split.agent_data("worker").join("inbox");
    fs::create_dir_all(&inbox).expect("made");
    for number in 0..9 {
        fs::write(inbox.join(format!("{number}.csv")), "1").expect("written");
    }
    split.agent("worker", &[]).await;
    let full = async |world: &World| {
        let (_, shown, _) = world.cli(&["agent", "show", "worker"]).await;
        shown.contains(": full,").then_some(())
    };
    split.world.until("the watch is full", full).await;
    assert_eq!(split.world.tasks().await.len(), 3);
    // A restart changes nothing: what was found is not told before there is room.
    split.kill_agent("worker").await;
    split.agent("worker", &[]).await;
    split.world.until("it is full again", full).await;
    assert_eq!(split.world.tasks().await.len(), 3);
    let id = split.world.tasks().await[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(split.world.cli(&["task", "cancel", &id]).await.0, Some(0));
    let world = &split.world;
    world.until("another one came", async |world| (world.tasks().await.len() == 4).then_some(())).await;
    // Once there is a machine, all of them run by themselves.
    split.stop_agent("worker").await;
    split.agent("worker", &[("role", "nobody")]).await;
    assert_eq!(split.world.effects_until(8).await.len(), 8);
}

async fn failed(world: &World) -> serde_json::Value {
    world
        .until("it failed", async |world| {
            world.tasks().await.into_iter().find(|task| task["status"] == "failed")
        })
        .await
}
