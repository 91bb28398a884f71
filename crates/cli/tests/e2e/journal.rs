//! An operator finds out why something did not run, mends the rule, and has it run after all.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    on_both,
    process::run,
    world::{Database, World, on_push},
};

on_both! { what_did_not_match_is_found_and_replayed, a_rule_is_tried_before_it_is_in_force }

/// Notes which event it ran for, and which one that repeats.
const SCRIPT: &str = "echo $HETUFLOW_EVENT_ID $HETUFLOW_EVENT_REPLAY_OF >> $DIR/effects";

fn only(condition: &str) -> String {
    on_push(SCRIPT, "").replace("events = [\"push\"]", &format!("events = [\"push\"]\nwhen = '{condition}'"))
}

async fn what_did_not_match_is_found_and_replayed(database: Database) {
    let world = World::dev(database, &[("deploy", &only("body.ref == \"main\""))]).await;
    let mut missed = Vec::new();
    for (n, body) in
        [r#"{"ref":"dev","n":1}"#, r#"{"ref":"main"}"#, r#"{"ref":"dev","n":2}"#].iter().enumerate()
    {
        let answer = world.push("deploy", &format!("delivery-{n}"), body).await;
        missed.push(answer.body["event_id"].as_str().expect("an id").to_owned());
    }
    let ran = missed.remove(1);
    assert_eq!(world.effects_until(1).await.concat(), ran);

    let (code, shown, said) = world.cli(&["event", "show", &missed[0]]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("- body.ref == \"main\"    body.ref is \"dev\", wanted == \"main\""), "{shown}");
    assert!(shown.contains("signed with"), "{shown}");
    assert!(shown.contains(" bytes of application/json"), "{shown}");
    assert!(shown.contains("x-github-event: push"), "{shown}");
    assert!(shown.contains("x-hub-signature-256: [redacted]"), "{shown}");
    let search = ["event", "list", "--trigger", "deploy", "--decision", "no-match", "--json", "ref=dev"];
    let (code, listed, said) = world.cli(&search).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(missed.iter().all(|id| listed.contains(id.as_str())) && !listed.contains(&ran), "{listed}");
    let (_, listed, _) = world.cli(&["event", "list", "--when", "body.?n.orValue(0) > 1"]).await;
    assert!(listed.contains(&missed[1]) && !listed.contains(&missed[0]), "{listed}");
    let (code, _, said) = world.cli(&["event", "list", "--when", "boddy.n > 1"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did you mean \"body\"?"), "{said}");

    world.write_trigger("deploy", &only("body.ref in [\"main\", \"dev\"]"));
    world
        .until("the new revision", async |world| {
            (world.get("triggers/deploy").await["revision"] == 2).then_some(())
        })
        .await;
    // Nobody can be asked here, so that without --yes nothing is done.
    let all = ["event", "replay", "--all", "--trigger", "deploy", "--decision", "no-match", "--since", "1h"];
    let (code, _, said) = world.cli(&all).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("would replay 2 events by the current definition (trigger deploy, decision no_match, "),
        "{said}"
    );
    let all: Vec<&str> = all.iter().copied().chain(["--yes", "--key", "k", "--output", "json"]).collect();
    let (code, summary, said) = world.cli(&all).await;
    assert_eq!(code, Some(0), "{said}");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let done = serde_json::json!({ "replayed": 2, "known": 0, "tasks": 2, "refused": [] });
    assert_eq!((&summary["matched"], &summary["done"]), (&Value::from(2), &done));
    let effects: BTreeSet<String> = world.effects_until(3).await.into_iter().collect();
    for id in &missed {
        let event = world.get(&format!("events/{id}")).await;
        let replay = event["replays"][0].as_str().expect("a replay");
        assert!(effects.contains(&format!("{replay} {id}")), "{effects:?}");
        assert_eq!(world.get(&format!("events/{replay}")).await["replay_of"], id.as_str());
    }
    // After a cut, the same command does nothing twice.
    let (_, summary, _) = world.cli(&all).await;
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!((&summary["done"]["replayed"], &summary["done"]["known"]), (&Value::from(0), &Value::from(2)));

    let (code, said, _) = world.cli(&["event", "replay", &missed[0], "--definition", "original"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("It started nothing: `hetuflow event show "), "{said}");
    assert_eq!(world.effects().len(), 3);
}

async fn a_rule_is_tried_before_it_is_in_force(database: Database) {
    let world = World::dev(database, &[("deploy", &only("body.ref == \"main\""))]).await;
    let mut events = Vec::new();
    for (n, reference) in ["main", "dev", "main"].iter().enumerate() {
        let body = format!("{{\"ref\":\"{reference}\",\"n\":{n}}}");
        let answer = world.push("deploy", &format!("delivery-{n}"), &body).await;
        events.push(answer.body["event_id"].as_str().expect("an id").to_owned());
    }
    let file = world.dir.path().join("tried.toml");
    let more = "environment = { REF = \"{{ body.ref }}\", SITE_TOKEN = \"{{ body.n }}\" }";
    let text = on_push("exit 1", more)
        .replace("[job]", "when = 'body.ref in [\"dev\", \"main\"] && body.n < 2'\n\n[job]");
    std::fs::write(&file, text).expect("written");
    let file = file.display().to_string();
    let payload = world.dir.path().join("payload.json");
    std::fs::write(&payload, r#"{"ref":"dev; rm -rf /","n":7}"#).expect("written");
    let payload = payload.display().to_string();

    let nowhere = ["trigger", "test", &file, "--payload", &payload, "--server", "http://127.0.0.1:1"];
    let (code, said, error) = run("hetuflow", &nowhere).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(said.starts_with("trigger tried  no match\n"), "{said}");
    let clause = r#"- body.ref in ["dev", "main"]    body.ref is "dev; rm -rf /", wanted in ["dev", "main"]"#;
    assert!(said.contains(clause) && said.contains("- body.n < 2    body.n is 7, wanted < 2"), "{said}");

    let tried = ["trigger", "test", &file, "--name", "deploy"];
    let (code, said, error) = world.cli(&[&tried[..], &["--event", &events[1]]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(said.starts_with("trigger deploy  matched\n"), "{said}");
    assert!(said.contains("REF=dev") && said.contains("SITE_TOKEN='(not shown)'"), "{said}");
    let (_, said, _) = world.cli(&[&tried[..], &["--last", "10"]].concat()).await;
    assert!(events.iter().all(|id| said.contains(id.as_str())), "{said}");

    let diff = [&tried[..], &["--last", "10", "--diff"]].concat();
    let (code, said, error) = world.cli(&diff).await;
    assert_eq!(code, Some(0), "{error}");
    let last = "Of the last 3 events, 2 would be decided otherwise, and for 1 another command would run.\n";
    assert!(said.ends_with(last), "{said}");
    let (_, answer, _) = world.cli(&[&diff[..], &["--output", "json"]].concat()).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let outcome = |case: usize, which: &str| answer["cases"][case][which]["decision"]["outcome"].clone();
    assert_eq!((outcome(0, "in_force"), outcome(0, "this_file")), ("matched".into(), "no_match".into()));
    assert_eq!((outcome(1, "in_force"), outcome(1, "this_file")), ("no_match".into(), "matched".into()));
    assert_eq!(answer["cases"][1]["this_file"]["command"]["environment"]["SITE_TOKEN"], "(not shown)");
    let (_, said, _) = world.cli(&["trigger", "test", &file, "--last", "10"]).await;
    assert!(said.contains("has been received at /hooks/tried"), "{said}");
    // Nothing ran but what the pushes started.
    assert_eq!(world.effects_until(2).await.len(), 2);
}
