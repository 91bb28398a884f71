//! What one attempt does: environment, output, limits, and the end of everything that it started.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};

use crate::world::{Said, World, again, command, is_alive, lines, script};
use hetuflow_core::{event::FileFacts, protocol::ToAgent, task::EndReason};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_gets_its_event_and_reports() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run =
        script(r#"echo "$REF $HETUFLOW_EVENT_TYPE $HETUFLOW_ATTEMPT"; cat "$HETUFLOW_EVENT_FILE"; exit 3"#);
    run.command.environment.insert("REF".to_owned(), "a b; $(id)".to_owned());
    server.assign(run.clone(), b"{\"raw\": true}").await;
    server.accepted(run.lease).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((result.outcome.reason, result.outcome.exit_code), (EndReason::Exit, Some(3)));
    assert_eq!(output, "a b; $(id) push 1\n{\"raw\": true}");
    assert!(result.started_at.is_some_and(|start| start <= result.finished_at));
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_the_jobs_alone() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run = command("env", &[]);
    run.command.environment.insert("HETUFLOW_TASK_ID".to_owned(), "forged".to_owned());
    run.event.file = Some(FileFacts {
        path: "/data/a b.csv".to_owned(),
        size: 7,
        mtime: jiff::Timestamp::UNIX_EPOCH,
        ..FileFacts::default()
    });
    server.run(&run).await;
    let (_, output) = server.result(run.lease).await;
    let names: Vec<&str> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "HETUFLOW_ATTEMPT",
            "HETUFLOW_EVENT_FILE",
            "HETUFLOW_EVENT_ID",
            "HETUFLOW_EVENT_SOURCE",
            "HETUFLOW_EVENT_SUBJECT",
            "HETUFLOW_EVENT_TYPE",
            "HETUFLOW_FILE",
            "HETUFLOW_FILE_CHANGE",
            "HETUFLOW_FILE_EXT",
            "HETUFLOW_FILE_KIND",
            "HETUFLOW_FILE_MTIME",
            "HETUFLOW_FILE_NAME",
            "HETUFLOW_FILE_SIZE",
            "HETUFLOW_FILE_STEM",
            "HETUFLOW_INSTANCE_ID",
            "HETUFLOW_OUTPUT",
            "HETUFLOW_TASK_ID",
            "HOME",
            "LANG",
            "PATH",
            "TRACEPARENT",
            "TZ"
        ]
    );
    assert!(output.contains("HETUFLOW_FILE=/data/a b.csv\n"));
    assert!(output.contains(&format!("HETUFLOW_TASK_ID={}\n", run.lease.task_id)));
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_text_reaches_its_process() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let path = world.path("").join(OsStr::from_bytes(b"100%\xFF.c\xFE"));
    std::fs::write(&path, "bytes").expect("written");
    let mut run = script(
        "cat \"$HETUFLOW_FILE\"; printf %s \"$HETUFLOW_FILE_NAME/$HETUFLOW_FILE_STEM/$HETUFLOW_FILE_EXT\" | od -An -tx1",
    );
    let found = std::fs::metadata(&path).expect("there");
    let mtime = found.modified().expect("a time").try_into().expect("a time");
    let file = FileFacts { size: found.len(), mtime, ..FileFacts::of(&path, None, None) };
    assert!(file.percent_encoded && file.path.ends_with("/100%25%FF.c%FE"), "{file:?}");
    run.event.source = format!("/agents/{}/files/default/import", server.hello.agent_id);
    run.event.file = Some(file.clone());
    server.run(&run).await;
    let (_, output) = server.result(run.lease).await;
    let bytes: String = output.split_whitespace().collect();
    assert_eq!(bytes, "bytes31303025ff2e63fe2f31303025ff2f63fe");
    server.acknowledge(run.lease).await;

    let mut run = again(&run, 2);
    run.command.args =
        vec!["-c".to_owned(), "cat \"$HETUFLOW_MANIFEST\"; od -An -tx1 < \"$HETUFLOW_MANIFEST0\"".to_owned()];
    let files = vec![FileFacts { path: "%FF".to_owned(), recheck: false, ..FileFacts::default() }, file];
    let batch =
        FileFacts { change: FileFacts::BATCH.to_owned(), recheck: false, files, ..FileFacts::default() };
    let body = serde_json::to_vec(&batch).expect("JSON");
    run.event.body_size = body.len() as u64;
    run.event.file = Some(FileFacts { files: Vec::new(), ..batch });
    server.assign(run.clone(), body.leak()).await;
    server.accepted(run.lease).await;
    let (_, output) = server.result(run.lease).await;
    let mut lines = output.lines();
    let mut line = || serde_json::from_str::<serde_json::Value>(lines.next().expect("a line")).expect("JSON");
    assert_eq!((line()["path"].as_str(), line()["percent_encoded"].as_bool()), (Some("%FF"), Some(true)));
    let names: String = lines.flat_map(str::split_whitespace).collect();
    assert!(names.starts_with("25464600") && names.ends_with("2f31303025ff2e63fe00"), "{names}");
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_leaves_in_its_output_file_is_told() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut told = async |text: &str| {
        let run = script(text);
        server.run(&run).await;
        let (result, _) = server.result(run.lease).await;
        server.acknowledge(run.lease).await;
        (result.outcome.exit_code, serde_json::json!(result.outcome.outputs), result.outcome.message)
    };
    let nothing = serde_json::json!({});
    let rows = serde_json::json!({ "rows": "12" });
    assert_eq!(told("echo rows=12 >> $HETUFLOW_OUTPUT; exit 4").await, (Some(4), rows, None));
    assert_eq!(told("true").await, (Some(0), nothing.clone(), None), "the next one has its own");
    let secret = world.path("secret");
    std::fs::write(&secret, "key=value").expect("written");
    let tricks = [
        format!("ln -sf {} $HETUFLOW_OUTPUT", secret.display()),
        format!("ln -f {} $HETUFLOW_OUTPUT", secret.display()),
        "rm $HETUFLOW_OUTPUT; mkfifo $HETUFLOW_OUTPUT".to_owned(),
        "rm $HETUFLOW_OUTPUT".to_owned(),
        "echo no value >> $HETUFLOW_OUTPUT".to_owned(),
        "head -c 20000 /dev/zero >> $HETUFLOW_OUTPUT".to_owned(),
    ];
    for trick in tricks {
        let (exit_code, outputs, message) = told(&trick).await;
        assert_eq!((exit_code, &outputs), (Some(0), &nothing), "{trick}");
        let message = message.expect(&trick);
        assert!(message.starts_with("what it wrote to HETUFLOW_OUTPUT was not taken: "), "{message}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_for_a_file_that_is_another_by_now() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let path = world.path("a.csv");
    std::fs::write(&path, "1").expect("written");
    let mut run = script("echo it ran");
    run.event.source = format!("/agents/{}/files/default/import", server.hello.agent_id);
    let file = FileFacts { path: path.display().to_string(), size: 2, ..FileFacts::default() };
    run.event.file = Some(file.clone());
    server.run(&run).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((result.outcome.reason, output.as_str()), (EndReason::Cancelled, ""));
    assert!(result.outcome.message.is_some_and(|text| text.contains("has changed since")));
    server.acknowledge(run.lease).await;

    // Unless its trigger does not ask.
    let mut run = again(&run, 2);
    run.event.file = Some(FileFacts { recheck: false, ..file });
    server.run(&run).await;
    assert_eq!(server.result(run.lease).await.1, "it ran\n");
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

const BROKEN_PIPE: u64 = 1 << 12;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_agent_reaches_a_process() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let run = script("cat /proc/self/status /proc/self/cgroup; ls /proc/self/fd; ps -o pgid= -p $$; echo $$");
    server.run(&run).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!(result.outcome.exit_code, Some(0), "{output}");
    let signals = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        u64::from_str_radix(line.trim(), 16).expect("a mask")
    };
    assert_eq!((signals("SigBlk:"), signals("SigCgt:"), signals("SigIgn:") & BROKEN_PIPE), (0, 0, 0));
    let tail: Vec<&str> = output.lines().rev().take(6).map(str::trim).collect();
    // Its own three, and the directory that is being listed; then the group, which is the shell's own.
    assert_eq!(tail[2..], ["3", "2", "1", "0"], "{output}");
    assert_eq!(tail[0], tail[1], "{output}");
    if std::path::Path::new("/sys/fs/cgroup/unified/hetuflow").exists()
        || std::path::Path::new("/sys/fs/cgroup/hetuflow").exists()
    {
        assert!(output.contains("/hetuflow/"), "{output}");
    }
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_in_a_directory_of_its_own_with_private_files() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run =
        script(r#"pwd; umask; cat; test -w "$HETUFLOW_OUTPUT" && echo writable; ls /proc/self/fd | wc -l"#);
    run.command.stdin = Some("from stdin\n".to_owned());
    server.run(&run).await;
    let (_, output) = server.result(run.lease).await;
    let (place, rest) = output.split_once('\n').expect("a line");
    let place = std::path::Path::new(place);
    assert!(place.starts_with(world.data_dir().join("work")) && place.ends_with("work"), "{output}");
    // 0, 1, 2, and the one with which `ls` reads the list.
    assert_eq!(rest, "0077\nfrom stdin\nwritable\n4\n");
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut no_dir = script("true");
    no_dir.command.working_dir = Some("/no/such/dir".to_owned());
    let mut no_user = script("true");
    no_user.command.user = Some("no-such-user".to_owned());
    for (run, expected) in [
        (
            command("no-such-program", &[]),
            r#"cannot start "no-such-program": No such file or directory (os error 2)"#,
        ),
        (command("/bin/sh", &["a\0b"]), r#"cannot start "/bin/sh": nul byte found in provided data"#),
        (no_dir, "working_dir /no/such/dir is not a directory that the agent can enter"),
        (no_user, r#"there is no user "no-such-user" on this host"#),
    ] {
        server.run(&run).await;
        let (result, _) = server.result(run.lease).await;
        assert_eq!(result.outcome.reason, EndReason::Spawn);
        assert_eq!(result.outcome.message.as_deref(), Some(expected));
        server.acknowledge(run.lease).await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_agent_runs_as_the_jobs_user() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run = script(
        r#"id -un; id -Gn; echo x > here && cat "$HETUFLOW_EVENT_FILE" && echo y > "$HETUFLOW_OUTPUT""#,
    );
    run.command.user = Some("nobody".to_owned());
    server.assign(run.clone(), b"body\n").await;
    let (result, output) = server.result(run.lease).await;
    if rustix::process::geteuid().is_root() {
        assert_eq!(output, "nobody\nnogroup\nbody\n");
        assert_eq!(result.outcome.exit_code, Some(0));
    } else {
        let message = result.outcome.message.expect("a message");
        assert!(message.contains("does not run as root"), "{message}");
    }
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_the_cap_is_counted() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let mut run = script("head -c 1000000 /dev/zero | tr '\\0' x");
    run.command.max_output_size = 100_000;
    server.run(&run).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((output.len(), result.output_dropped), (100_000, 900_000));
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_the_whole_tree() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let pids = world.path("pids");
    // One that ignores the request, one that has left the group, one that has cleared its environment.
    let mut run = script(&format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 100; done' >> {pids} &
         setsid sh -c 'echo $$; sleep 1000' >> {pids} &
         env -i sh -c 'trap \"\" TERM; echo $$; while :; do sleep 100; done' >> {pids} &
         echo $$ >> {pids}; while :; do sleep 100; done",
        pids = pids.display()
    ));
    run.command.timeout = Some(Duration::from_millis(700));
    server.run(&run).await;
    let pids = lines(&pids, 4).await;
    assert!(pids.iter().all(|pid| is_alive(pid)));
    let (result, _) = server.result(run.lease).await;
    assert_eq!((result.outcome.reason, result.outcome.signal), (EndReason::Timeout, Some(9)));
    assert_eq!(result.outcome.message.as_deref(), Some("killed after its timeout of 700ms"));
    assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0);
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_leaves_running_ends_with_it() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let pids = world.path("pids");
    // Both hold the output open.
    let run = script(&format!(
        "setsid sh -c 'echo $$ >> {pids}; sleep 1000' & sleep 1000 & echo $! >> {pids}
         while [ $(wc -l < {pids}) -lt 2 ]; do :; done; echo done",
        pids = pids.display()
    ));
    server.run(&run).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((result.outcome.exit_code, output.as_str()), (Some(0), "done\n"));
    let pids = lines(&pids, 2).await;
    assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0);
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_asks_first() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let run = script("trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    server.run(&run).await;
    server.until(|said| matches!(said, Said::Output { .. }).then_some(())).await;
    server.say(ToAgent::Cancel { lease: run.lease }).await;
    let (result, output) = server.result(run.lease).await;
    assert_eq!((result.outcome.reason, result.outcome.exit_code), (EndReason::Cancelled, Some(0)));
    // The shell adds a word about the `sleep` that the same signal ended.
    assert!(output.contains("asked\n"), "{output}");
    server.acknowledge(run.lease).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_signal_is_named() {
    let world = World::new().await;
    let agent = world.agent();
    let mut server = world.session().await;
    let run = script("kill -SEGV $$");
    server.run(&run).await;
    let (result, _) = server.result(run.lease).await;
    assert_eq!((result.outcome.reason, result.outcome.signal), (EndReason::Signal, Some(11)));
    server.acknowledge(run.lease).await;
    agent.stop().await;
}
