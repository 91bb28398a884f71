//! The folder of trigger files while the server runs, and `trigger apply`.

use reqwest::StatusCode;
use serde_json::json;

use crate::world::{DEPLOY, MAIN, PATIENCE, SECRET, World};

const CLOCKS: &str = r#"
[on.interval]
every = "5m"

[on.cron]
expression = "0 12 * * *"

[job]
cmd = "true"
"#;

#[tokio::test]
async fn added_broken_mended_deleted() {
    let world = World::new().await;
    world.trigger_until("deploy-site", |one| one["live"] == true && one["revision"] == 1).await;

    world.write_trigger("deploy-site", &DEPLOY.replace("push\"]", "push\"]\nwhat = 1"));
    let broken = world.trigger_until("deploy-site", |one| one["problem"].is_string()).await;
    let problem = broken["problem"].as_str().expect("text");
    assert!(problem.contains("deploy-site.toml:8:1: "), "{problem}");
    assert_eq!((broken["live"].as_bool(), broken["revision"].as_i64()), (Some(true), Some(1)));
    assert_eq!(world.get("system/health").await["status"], "degraded");
    assert_eq!(world.push("d-1", MAIN).send().await.expect("an answer").status(), StatusCode::ACCEPTED);

    world.write_trigger("deploy-site", &DEPLOY.replace("refs/heads/main", "refs/heads/stable"));
    world.trigger_until("deploy-site", |one| one["problem"].is_null() && one["revision"] == 2).await;
    assert_eq!(world.get("system/health").await["status"], "ok");
    let set = world.server.state.triggers.current();
    assert_eq!(set.live["default/deploy-site"].revision, 2);

    std::fs::remove_file(world.triggers.join("deploy-site.toml")).expect("removed");
    world.until("triggers", |list| (list["items"] == json!([])).then_some(())).await;
    world.server.state.triggers.subscribe().wait_for(|set| set.live.is_empty()).await.expect("swapped");
    let response = world.push("d-2", MAIN).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_file_that_never_parsed_is_listed() {
    let world = World::new().await;
    world.write_trigger("new", "[on.cron]\nexpresion = 1\n");
    let broken = world.trigger_until("new", |_| true).await;
    assert_eq!((broken["live"].as_bool(), broken["revision"].as_i64()), (Some(false), Some(0)));
    std::fs::remove_file(world.triggers.join("new.toml")).expect("removed");
    world.until("triggers", |list| (list["items"].as_array()?.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn clocks_get_their_first_time() {
    let world = World::new().await;
    world.write_trigger("clocks", CLOCKS);
    let trigger = world.trigger_until("clocks", |one| one["live"] == true).await;
    let schedules = trigger["schedules"].as_array().expect("schedules");
    let names: Vec<&str> = schedules.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(schedules.iter().all(|one| one["next_run_at"].is_string()), "{schedules:?}");
    let set = world.server.state.triggers.current();
    assert_eq!(set.live["default/clocks"].clocks.len(), 2);
}

#[tokio::test]
async fn one_name_in_two_files_is_the_later_ones_problem() {
    let world = World::new().await;
    world.write_trigger("zz", "[[trigger]]\nname = \"deploy-site\"\n[trigger.on.interval]\nevery = \"5m\"\n[trigger.job]\ncmd = \"true\"\n");
    let later = world.trigger_until("zz", |one| one["problem"].is_string()).await;
    let problem = later["problem"].as_str().expect("text");
    assert!(problem.contains("declared in") && problem.contains("deploy-site.toml"), "{problem}");
    let first = world.trigger_until("deploy-site", |_| true).await;
    assert_eq!((first["live"].as_bool(), &first["problem"]), (Some(true), &json!(null)));
}

#[tokio::test]
async fn applied_through_the_api() {
    let world = World::new().await;
    let text = DEPLOY.replace("DEPLOY_SECRET", "OTHER_SECRET");
    let (status, applied) =
        world.post("triggers/apply", json!({ "origin": "here/other.toml", "text": text })).await;
    assert_eq!((status, &applied["triggers"]), (StatusCode::OK, &json!(["other"])), "{applied}");
    assert!(world.server.state.triggers.current().live.contains_key("default/other"), "in force at once");

    // A folder's trigger is not for others to change.
    let (status, _) =
        world.post("triggers/apply", json!({ "origin": "deploy-site.toml", "text": text })).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let delete = async |name: &str| {
        world.client.delete(world.api(&format!("triggers/{name}"))).send().await.expect("an answer").status()
    };
    assert_eq!(delete("deploy-site").await, StatusCode::CONFLICT);
    assert_eq!(delete("other").await, StatusCode::NO_CONTENT);
    assert_eq!(delete("other").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn problems_of_a_text_are_told_with_their_places() {
    let world = World::new().await;
    let text = "[on.interval]\nevery = \"soon\"\n[job]\ncmd = \"true\"\nwhat = 1\n";
    let body = json!({ "origin": "x.toml", "text": text });
    let (status, checked) = world.post("triggers/check", body.clone()).await;
    assert_eq!((status, &checked["triggers"]), (StatusCode::OK, &json!([])));
    let places: Vec<_> = checked["problems"]["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .map(|one| one["line"].as_u64().expect("a line"))
        .collect();
    assert_eq!(places, [2, 5]);
    let (status, problem) = world.post("triggers/apply", body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["problems"], checked["problems"]);
}

const CLOSED: &str = r#"
[on.cron]
expression = "0 12 * * *"
blackout   = [{ calendar = "bank" }]

[job]
cmd = "true"
"#;

#[tokio::test]
async fn a_calendar_beside_the_triggers_is_taken_along() {
    let world = World::new().await;
    let folder = world.triggers.join("calendars");
    std::fs::create_dir(&folder).expect("a folder");
    let write = |text: &str| {
        std::fs::write(folder.join(".bank.new"), text).expect("written");
        std::fs::rename(folder.join(".bank.new"), folder.join("bank.toml")).expect("renamed");
    };
    world.write_trigger("noon", CLOSED);
    let trigger = world.trigger_until("noon", |trigger| trigger["problem"].is_string()).await;
    let problem = trigger["problem"].as_str().expect("a text");
    assert!(problem.contains("noon.toml:4:"), "{problem}");
    assert!(problem.contains("there is no calendar \"bank\""), "{problem}");
    write("days = [\"12-25\"]\n");
    let trigger = world.trigger_until("noon", |trigger| trigger["problem"].is_null()).await;
    assert_eq!(trigger["schedules"][0]["spec"]["blackout"][0]["calendar"], "bank");
    assert_eq!(trigger["revision"], 1);
    // A change of the calendar is a change of the trigger.
    write("days = [\"12-25\", \"easter+1\"]\n");
    world.trigger_until("noon", |trigger| trigger["revision"] == 2).await;
    // A broken one leaves the last good version in force.
    write("days = [\"25-12\"]\n");
    let trigger = world.trigger_until("noon", |trigger| trigger["problem"].is_string()).await;
    let problem = trigger["problem"].as_str().expect("a text");
    assert!(problem.contains("calendars/bank.toml:1:9: days: \"25-12\" is no day"), "{problem}");
    assert_eq!((trigger["live"].as_bool(), trigger["revision"].as_i64()), (Some(true), Some(2)));
}

#[tokio::test]
async fn a_changed_secret_file_is_read_again() {
    let world = World::new().await;
    let file = world.triggers.join("deploy.secret");
    let of_file = format!("secret = {{ file = {:?} }}", file.display().to_string());
    let text: Vec<String> = DEPLOY
        .lines()
        .map(|line| if line.starts_with("secret") { of_file.clone() } else { line.to_owned() })
        .collect();
    world.write_trigger("deploy-site", &text.join("\n"));
    let warned = |trigger: &serde_json::Value| trigger["warnings"].to_string().contains("cannot be read");
    world.trigger_until("deploy-site", warned).await;
    let write = |secret: &str| {
        std::fs::write(world.triggers.join(".secret.new"), secret).expect("written");
        std::fs::rename(world.triggers.join(".secret.new"), &file).expect("renamed");
    };
    write(SECRET);
    world.trigger_until("deploy-site", |trigger| !warned(trigger)).await;
    assert_eq!(world.push("d-1", MAIN).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    // Nobody signs with the new one here.
    write("another");
    let refused = async {
        while world.push("d-1", MAIN).send().await.expect("an answer").status() != StatusCode::UNAUTHORIZED {}
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the new secret is in force");
}
