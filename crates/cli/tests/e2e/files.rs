//! A file that lands in a watched folder runs its job once, when it is complete.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use crate::{
    on_both,
    world::{Database, World},
};

on_both! { a_slow_copy_runs_once_when_complete, a_renamed_file_runs_once, files_that_came_while_it_was_down_run_once, many_files_are_one_run, what_is_refused_is_an_event_for_others, files_are_moved_when_their_task_has_ended, a_name_that_is_no_text_reaches_its_job, each_version_that_is_claimed_runs, a_link_is_the_file_that_it_leads_to, a_directory_is_one_run }

fn import() -> (&'static str, &'static str) {
    let text = "[on.file]\npaths = [\"inbox/*.csv\"]\nagents = { ingest = \"yes\" }\n\n[job]\ncmd = \"sh\"\n\
         args = [\"-c\", '''echo \"$HETUFLOW_FILE $HETUFLOW_FILE_SIZE $(wc -c < \"$HETUFLOW_FILE\")\" >> $DIR/effects''']\n";
    ("import", text)
}

async fn a_slow_copy_runs_once_when_complete(database: Database) {
    let world = World::dev(database, &[import()]).await;
    let path = world.data().join("inbox/slow.csv");
    let mut file = fs::File::create(&path).expect("created");
    for part in 0..10 {
        writeln!(file, "part {part}").expect("written");
        file.flush().expect("flushed");
    }
    // Another file, complete, shows that the watch works while the slow one is still open.
    fs::write(world.data().join("inbox/quick.csv"), "x").expect("written");
    let quick = format!("{} 1 1", world.data().join("inbox/quick.csv").display());
    assert_eq!(world.effects_until(1).await, [quick.as_str()]);

    writeln!(file, "the end").expect("written");
    drop(file);
    let size = fs::metadata(&path).expect("there").len();
    let effects = world.effects_until(2).await;
    assert_eq!(effects, [quick, format!("{} {size} {size}", path.display())]);
    world.until("both succeeded", async |world| all_succeeded(world, 2).await).await;
}

async fn a_renamed_file_runs_once(database: Database) {
    let world = World::dev(database, &[import()]).await;
    let inbox = world.data().join("inbox");
    fs::write(inbox.join(".upload.tmp"), "1234").expect("written");
    fs::rename(inbox.join(".upload.tmp"), inbox.join("orders.csv")).expect("renamed");
    assert_eq!(world.effects_until(1).await, [format!("{} 4 4", inbox.join("orders.csv").display())]);
    world.until("it succeeded", async |world| all_succeeded(world, 1).await).await;
}

async fn files_that_came_while_it_was_down_run_once(database: Database) {
    let mut world = World::dev(database, &[import()]).await;
    let inbox = world.data().join("inbox");
    fs::write(inbox.join("before.csv"), "1").expect("written");
    // Its end is recorded: nothing of it is left in the air.
    world.until("it succeeded", async |world| all_succeeded(world, 1).await).await;
    world.server.kill().await;

    fs::write(inbox.join("while-down.csv"), "12").expect("written");
    world.restart().await;
    let effects = world.effects_until(2).await;
    assert_eq!(effects[1], format!("{} 2 2", inbox.join("while-down.csv").display()));

    // A third one proves that everything before it was seen, and seen once.
    fs::write(inbox.join("after.csv"), "123").expect("written");
    assert_eq!(world.effects_until(3).await.len(), 3);
    world.until("three succeeded", async |world| all_succeeded(world, 3).await).await;
}

async fn many_files_are_one_run(database: Database) {
    let text = r#"
[on.file]
paths   = ["inbox/*.csv"]
agents  = { ingest = "yes" }
capture = '(?<n>\d+)'
order   = "capture:n"
batch   = { max_files = 3, max_wait = "1h" }

[job]
cmd  = "sh"
args = ["-c", '''
names=$(tr '\000' ' ' < "$HETUFLOW_MANIFEST0")
echo $HETUFLOW_BATCH_COUNT $HETUFLOW_FILE_SIZE $names $(grep -c captures "$HETUFLOW_MANIFEST") >> $DIR/effects
''']
"#;
    let world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    for (number, content) in [("10", "1"), ("9", "22"), ("8", "333")] {
        fs::write(inbox.join(format!("f{number}.csv")), content).expect("written");
    }
    let path = |number: &str| inbox.join(format!("f{number}.csv")).display().to_string();
    let expected = format!("3 6 {} {} {} 3", path("8"), path("9"), path("10"));
    assert_eq!(world.effects_until(1).await, [expected]);
    world.until("it succeeded", async |world| all_succeeded(world, 1).await).await;
}

async fn what_is_refused_is_an_event_for_others(database: Database) {
    let watching = r#"
[on.file]
paths    = ["inbox/*.csv"]
agents   = { ingest = "yes" }
max_size = 3

[job]
cmd  = "sh"
args = ["-c", 'echo "took $HETUFLOW_FILE_NAME" >> $DIR/effects']
"#;
    let told = r#"
[on.event]
type = "file.rejected"
when = 'file.size > 3'

[job]
cmd  = "sh"
args = ["-c", 'echo "refused $HETUFLOW_FILE_NAME $WHY" >> $DIR/effects']
environment = { WHY = "{{ file.reason }}" }
"#;
    let world = World::dev(database, &[("import", watching), ("alert", told)]).await;
    fs::write(world.data().join("inbox/big.csv"), "12345").expect("written");
    assert_eq!(world.effects_until(1).await, ["refused big.csv it has 5 bytes, more than 3"]);
    fs::write(world.data().join("inbox/small.csv"), "1").expect("written");
    assert_eq!(world.effects_until(2).await[1], "took small.csv");
    world.until("both succeeded", async |world| all_succeeded(world, 2).await).await;
}

async fn files_are_moved_when_their_task_has_ended(database: Database) {
    let text = r#"
[on.file]
paths   = ["inbox/*.csv"]
agents  = { ingest = "yes" }
after_success = { move = "done/{name}" }
after_failure = { move = "failed/{name}" }

[job]
cmd  = "sh"
args = ["-c", 'echo "$HETUFLOW_FILE_NAME" >> $DIR/effects; exec test "$HETUFLOW_FILE_NAME" = good.csv']
"#;
    let world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    fs::write(inbox.join("good.csv"), "1").expect("written");
    fs::write(inbox.join("bad.csv"), "22").expect("written");
    let moved = async |_: &World| {
        let there = inbox.join("done/good.csv").exists() && inbox.join("failed/bad.csv").exists();
        there.then_some(())
    };
    world.until("both are moved", moved).await;
    assert!(!inbox.join("good.csv").exists() && !inbox.join("bad.csv").exists());
    assert_eq!(world.effects_until(2).await.len(), 2);
}

async fn a_name_that_is_no_text_reaches_its_job(database: Database) {
    let text = r#"
[on.file]
paths  = ["inbox/*"]
agents = { ingest = "yes" }
names  = "any"
after_success = { move = "done/{name}" }

[job]
cmd  = "sh"
args = ["-c", 'echo "$TOLD $(printf %s "$HETUFLOW_FILE_NAME" | od -An -tx1) $(cat "$HETUFLOW_FILE")" >> $DIR/effects']
environment = { TOLD = "{{ file.path }}" }
"#;
    let world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    let name = OsStr::from_bytes(b"%\xFF");
    fs::write(inbox.join(name), "bytes").expect("written");
    let told = format!("{}/%25%FF 25 ff bytes", inbox.display());
    let effects = world.effects_until(1).await;
    assert_eq!(effects[0].split_whitespace().collect::<Vec<_>>().join(" "), told);
    let moved = async |_: &World| inbox.join("done").join(name).exists().then_some(());
    world.until("it is moved", moved).await;
    let events = world.get("events?kind=file").await;
    assert_eq!(events["items"][0]["subject"], format!("{}/%25%FF", inbox.display()), "{events:#}");
}

async fn each_version_that_is_claimed_runs(database: Database) {
    let text = r#"
[on.file]
paths  = ["inbox/**/*.csv"]
agents = { ingest = "yes" }
claim  = "rename"
after_success = { move = "done/{name}" }

[job]
cmd  = "sh"
args = ["-c", '''
while [ ! -e $DIR/go ]; do sleep 0.05; done
echo "$HETUFLOW_FILE_NAME $(cat "$HETUFLOW_FILE") $HETUFLOW_FILE_CLAIMED_FROM $FROM" >> $DIR/effects
''']
environment = { FROM = "{{ file.claimed_from }}" }
max_retries    = 9
retry_interval = 0
"#;
    let mut world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    for version in 1..=3 {
        fs::write(inbox.join("a.csv"), format!("v{version}")).expect("written");
        world.until("it is claimed", async |_| (!inbox.join("a.csv").exists()).then_some(())).await;
    }
    let known = async |world: &World| (world.tasks().await.len() == 3).then_some(());
    world.until("each has its task", known).await;
    // What is claimed is found again, and what runs already has not to be told.
    world.server.kill().await;
    world.restart().await;
    fs::write(world.dir.path().join("go"), "").expect("written");
    let path = inbox.join("a.csv").display().to_string();
    let mut effects = world.effects_until(3).await;
    effects.sort_unstable();
    assert_eq!(effects, [1, 2, 3].map(|version| format!("a.csv v{version} {path} {path}")));
    let moved = async |_: &World| {
        let names = ["a.csv", "a-2.csv", "a-3.csv"];
        names.iter().all(|name| inbox.join("done").join(name).exists()).then_some(())
    };
    world.until("all are moved", moved).await;
    assert_eq!(fs::read_dir(inbox.join(".hetuflow/claimed")).expect("there").count(), 0);
}

async fn a_link_is_the_file_that_it_leads_to(database: Database) {
    let text = r#"
[on.file]
paths    = ["inbox/*.csv"]
agents   = { ingest = "yes" }
symlinks = "file"
after_success = { move = "done/{name}" }

[job]
cmd  = "sh"
args = ["-c", '''echo "$HETUFLOW_FILE_KIND $HETUFLOW_FILE_NAME $(cat "$HETUFLOW_FILE")" >> $DIR/effects''']
"#;
    let world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    fs::create_dir(inbox.join(".store")).expect("made");
    for number in ["1", "2"] {
        fs::write(inbox.join(".store").join(number), number).expect("written");
    }
    let mut expected = Vec::new();
    for number in ["1", "2"] {
        symlink(format!(".store/{number}"), inbox.join("a.csv")).expect("linked");
        expected.push(format!("link a.csv {number}"));
        assert_eq!(world.effects_until(expected.len()).await, expected);
        world.until("it is moved", async |_| (!inbox.join("a.csv").exists()).then_some(())).await;
    }
    let read = |name: &str| fs::read_to_string(inbox.join("done").join(name)).expect("a link to a file");
    assert_eq!((read("a.csv"), read("a-2.csv")), ("1".to_owned(), "2".to_owned()));
}

async fn a_directory_is_one_run(database: Database) {
    let text = r#"
[on.file]
paths    = ["inbox/*"]
kinds    = ["directory"]
agents   = { ingest = "yes" }
after_success = { move = "done/{name}" }

[job]
cmd  = "sh"
args = ["-c", '''echo "$HETUFLOW_FILE_KIND $HETUFLOW_FILE_COUNT $HETUFLOW_FILE_SIZE $(cat "$HETUFLOW_FILE"/*/*)" >> $DIR/effects''']
"#;
    let world = World::dev(database, &[("import", text)]).await;
    let inbox = world.data().join("inbox");
    fs::create_dir_all(inbox.join("a/sub")).expect("made");
    let mut slow = fs::File::create(inbox.join("a/sub/slow")).expect("created");
    fs::write(inbox.join("a/one"), "1").expect("written");
    // Another one, complete, shows that the watch works while the first is still written.
    fs::create_dir_all(world.data().join("b/sub")).expect("made");
    fs::write(world.data().join("b/sub/quick"), "x").expect("written");
    fs::rename(world.data().join("b"), inbox.join("b")).expect("renamed");
    assert_eq!(world.effects_until(1).await, ["directory 1 1 x"]);
    slow.write_all(b"end").expect("written");
    drop(slow);
    assert_eq!(world.effects_until(2).await, ["directory 1 1 x", "directory 2 4 end"]);
    let moved = async |_: &World| {
        let there = inbox.join("done/a/sub/slow").exists() && inbox.join("done/b/sub/quick").exists();
        (there && !inbox.join("a").exists()).then_some(())
    };
    world.until("both are moved", moved).await;
}

async fn all_succeeded(world: &World, count: usize) -> Option<()> {
    let tasks = world.tasks().await;
    (tasks.len() == count && tasks.iter().all(|task| task["status"] == "succeeded")).then_some(())
}
