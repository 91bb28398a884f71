//! Jobs and schedules that are declared over the API, and triggers that are started by hand.

use serde_json::{Value, json};

use crate::{
    on_both,
    world::{Database, World},
};

on_both! {
    a_job_of_the_api_runs_by_its_schedule_and_by_hand,
    a_disabled_trigger_is_started_by_nothing,
    a_plan_says_what_apply_would_change,
}

async fn post(world: &World, path: &str, body: &Value) -> Value {
    let url = format!("http://{}/api/v1/{path}", world.places.api);
    let response = world.http.post(url).json(body).send().await.expect("the API answers");
    let status = response.status();
    let answer = response.json().await.expect("JSON");
    assert!(status.is_success(), "{path}: {status} {answer}");
    answer
}

async fn a_job_of_the_api_runs_by_its_schedule_and_by_hand(database: Database) {
    let world = World::dev(database, &[]).await;
    let job = json!({
        "namespace_id": "default", "name": "hello", "description": "says hello",
        "environment": { "WHO": "{{ body.who | default('world') }}", "WHERE": world.dir.path() },
        "config": { "cmd": "sh", "args": ["-c", "echo hello $WHO >> $WHERE/effects"], "timeout": 30 },
    });
    let job = post(&world, "jobs/item", &job).await;

    let (code, out, err) =
        world.cli(&["trigger", "start", "hello", "--data", r#"{"who":"you"}"#, "--output", "json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let started: Value = serde_json::from_str(&out).expect("JSON");
    world.task_until(started["task_ids"][0].as_str().expect("an id"), "succeeded").await;
    assert_eq!(world.effects(), ["hello you"]);
    for (code, expected, status) in [(0, 0, "succeeded"), (3, 1, "failed")] {
        let text =
            format!("[on.api]\n[job]\ncmd = \"sh\"\nargs = [\"-c\", \"echo it says this; exit {code}\"]\n");
        world.write_trigger(status, &text);
        let known = async |world: &World| {
            let (code, _, _) = world.cli(&["trigger", "show", status]).await;
            (code == Some(0)).then_some(())
        };
        world.until("the trigger is in force", known).await;
        let (code, out, err) = world.cli(&["trigger", "start", status, "--follow"]).await;
        assert_eq!((code, out.contains("it says this\n")), (Some(expected), true), "{out}{err}");
    }

    let schedule = json!({ "job_id": job["id"], "name": "often", "kind": "interval", "interval_seconds": 1 });
    let schedule = post(&world, "schedules/item", &schedule).await;
    let effects = world.effects_until(3).await;
    assert!(effects[1..].iter().all(|line| line == "hello world"), "{effects:?}");

    let name = schedule["trigger"].as_str().expect("a name");
    let (code, _, err) = world.cli(&["trigger", "remove", name]).await;
    assert_eq!(code, Some(0), "{err}");
    let (_, out, _) = world.cli(&["job", "show", "hello"]).await;
    assert!(out.contains("says hello"), "{out}");
}

async fn a_disabled_trigger_is_started_by_nothing(database: Database) {
    let text = |enabled: bool| {
        let run = "[job]\ncmd = \"sh\"\nargs = [\"-c\", \"echo ran >> $DIR/effects\"]\n";
        format!("enabled = {enabled}\n\n[on.api]\n\n[on.interval]\nevery = \"1s\"\n\n{run}")
    };
    let world = World::dev(database, &[("sleeper", &text(false))]).await;
    let (code, _, err) = world.cli(&["trigger", "start", "sleeper"]).await;
    assert_eq!(code, Some(6), "{err}");
    let (_, out, _) = world.cli(&["trigger", "list"]).await;
    assert!(out.contains("disabled"), "{out}");
    assert!(world.tasks().await.is_empty());

    world.write_trigger("sleeper", &text(true));
    world.effects_until(1).await;
}

async fn a_plan_says_what_apply_would_change(database: Database) {
    let world = World::dev(database, &[("of-folder", "[on.api]\n[job]\ncmd = \"true\"\n")]).await;
    let file = |name: &str, text: &str| {
        let path = world.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let plan = async |path: &str| {
        let (code, out, err) = world.cli(&["trigger", "plan", path]).await;
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let text = "[on.api]\n[job]\ncmd = \"true\"\ntimeout = \"5m\"\n";
    let mine = file("mine.toml", text);
    assert_eq!(plan(&mine).await, "mine: new\n");
    assert_eq!(world.get("triggers/mine").await["status"], 404, "nothing was put in force");
    let (code, _, err) = world.cli(&["trigger", "apply", &mine]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(plan(&mine).await, "mine: as it is in force\n");
    file("mine.toml", &text.replace("5m", "9m"));
    let changed = plan(&mine).await;
    assert!(changed.starts_with("mine: changed\n"), "{changed}");
    assert!(changed.contains("-timeout = \"5m\"\n") && changed.contains("+timeout = \"9m\"\n"), "{changed}");
    let other = plan(&file("of-folder.toml", text)).await;
    assert!(other.starts_with("of-folder: refused: it belongs to "), "{other}");
    let (code, _, err) = world.cli(&["trigger", "plan", &file("wrong.toml", "[on.api]\n")]).await;
    assert_eq!(code, Some(3), "{err}");
}
