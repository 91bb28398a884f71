//! `hetuflow doctor` on this machine, with configurations that are right and wrong.

use std::fs;

use serde_json::Value;

use crate::process::run;

#[tokio::test]
async fn doctor_says_what_would_not_work() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(path("triggers")).expect("made");
    fs::write(path("triggers/good.toml"), "[on.api]\n[job]\ncmd = \"true\"\n").expect("written");
    let server = |more: &str| {
        let text = format!(
            "[server]\nhttp_port = 0\nwebsocket_port = 0\nhook_port = 0\n[database]\nurl = \"sqlite://{}\"\n\
             [triggers]\ndirectory = \"{}\"\n{more}",
            path("data/hetuflow.db"),
            path("triggers"),
        );
        fs::write(path("server.toml"), text).expect("written");
    };
    let agent = format!("[agent]\ndata_dir = \"{}\"\nserver_url = \"ws://127.0.0.1:1\"\n", path("agent"));
    fs::write(path("agent.toml"), agent).expect("written");
    let (config, agent) = (path("server.toml"), path("agent.toml"));
    let doctor = async |more: &[&str]| {
        let args = [&["doctor", "--output", "json", "--config", &config], more].concat();
        let (code, said, _) = run("hetuflow", &args).await;
        let found: Vec<Value> = serde_json::from_str(&said).expect("JSON");
        let verdict = move |what: &str| {
            let finding = found.iter().find(|finding| finding["what"] == what);
            finding.map_or_else(String::new, |finding| format!("{}: {}", finding["verdict"], finding["text"]))
        };
        (code, verdict)
    };

    server("");
    let (code, verdict) = doctor(&["--agent-config", &agent]).await;
    assert_eq!(code, Some(0));
    assert_eq!(verdict("database"), r#""good": "it is made at the first start""#);
    assert_eq!(verdict("listeners"), r#""good": "their addresses are free""#);
    assert!(verdict("triggers").starts_with(r#""good": "1 in "#));
    assert!(
        verdict("server ws://127.0.0.1:1").starts_with("\"warning\""),
        "{}",
        verdict("server ws://127.0.0.1:1")
    );
    assert!(!dir.path().join("data").exists() && !dir.path().join("agent").exists(), "nothing is made");

    server("[tls]\ndirectory = \"DIR/tls\"\n".replace("DIR", &dir.path().display().to_string()).as_str());
    let text = fs::read_to_string(&config)
        .expect("there")
        .replace("websocket_port = 0", "websocket_port = \"0.0.0.0:0\"");
    fs::write(&config, &text).expect("written");
    let (code, verdict) = doctor(&[]).await;
    assert_eq!(code, Some(0));
    assert!(verdict("key for agents").starts_with(r#""good": "it is made at the first start"#));
    assert!(!dir.path().join("tls").exists(), "nothing is made");
    fs::create_dir(path("tls")).expect("made");
    fs::write(path("tls/server.pem"), "open to all").expect("written");
    let (code, verdict) = doctor(&[]).await;
    assert_eq!(code, Some(1));
    assert!(verdict("key for agents").contains("can be read by everybody"), "{}", verdict("key for agents"));
    fs::remove_dir_all(path("tls")).expect("removed");

    fs::write(path("triggers/torn.toml"), "[on.api]\n[job]\ncmd = \n").expect("written");
    let (code, verdict) = doctor(&[]).await;
    assert_eq!(code, Some(1));
    assert!(verdict(&path("triggers/torn.toml")).starts_with("\"bad\""));

    server("[serve]\n");
    let (code, verdict) = doctor(&[]).await;
    assert_eq!((code, verdict("database").as_str()), (Some(1), ""));
    assert!(verdict(&config).contains("unknown key"), "{}", verdict(&config));

    fs::write(
        &config,
        "[database]\nurl = \"postgres://me:hunter2@127.0.0.1:1/x\"\n[triggers]\ndirectory = \"\"\n",
    )
    .expect("written");
    let (code, verdict) = doctor(&[]).await;
    assert_eq!(code, Some(1));
    assert!(verdict("database").contains("refused") && !verdict("database").contains("hunter2"));
}
