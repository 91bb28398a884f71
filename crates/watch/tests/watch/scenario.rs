//! Each scenario is a file of `tests/cases/scenario/`: a file source and steps on real files. A new
//! scenario needs no Rust. Paths in steps are percent-encoded; those of events are as they are told, with `encoded` after the
//! size where they say so. The steps:
//!
//! ```text
//! write PATH TEXT     makes the file, and its directories     append PATH TEXT   open, write, close
//! hold PATH TEXT      writes and keeps it open                more PATH TEXT     writes on, still open
//! close PATH          closes what is held                     mkdir PATH
//! rename FROM TO      link FROM TO (a hard link)              remove PATH (a file or a tree)
//! old PATH            sets its time of change to 2001         chmod PATH
//! nameless PATH TEXT  O_TMPFILE, written, then linked         map PATH TEXT      a mapping that is held; `unmap PATH` ends it
//! allocate PATH N     held, with its length at once           fill PATH TEXT     writes at its start, still open
//! truncate PATH N     by name                                 touch PATH         opened for writing and closed
//! exchange ONE TWO    each takes the other's place            soft FROM TO       a symbolic link
//! point PATH TEXT     a symbolic link that says TEXT
//! start, stop         the watcher, on the same state          lose-state         deletes all that it remembers
//! lose-memory         deletes its state file              damage-memory      overwrites a piece in the middle of it
//! acknowledge         everything pending                      forget             expect the pending again
//! edit                the trigger becomes `edited`             edit-unsound       the same, without waiting
//! problem TEXT        waits until the watch's problem has TEXT; `problem` alone, until it has none
//! ended OUTCOME                   the tasks of what was acknowledged have ended: succeeded, failed, cancelled
//! claimed N                          waits until so many files are claimed
//! link-claimed PATH   a hard link there to the claimed file that was there
//! append-claimed NAME TEXT             to the claimed file of that name
//! there PATH, away PATH           waits until the file is there, or not any more
//! settled N                       waits until so many files were ever complete and nothing settles
//! expect CHANGE PATH SIZE [REASON]; ..    waits for exactly these new events
//! in-order CHANGE PATH SIZE; ..  likewise, in the order of the outbox
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    world::{World, has_fanotify},
    writers,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    source: Sources,
    edited: Option<Sources>,
    steps: Vec<String>,
}

/// `[source]`, or `[[source]]` of a trigger with several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sources {
    One(toml::Table),
    Many(Vec<toml::Table>),
}

impl Sources {
    fn tables(&mut self) -> &mut [toml::Table] {
        match self {
            Self::One(table) => std::slice::from_mut(table),
            Self::Many(tables) => tables,
        }
    }

    fn texts(&mut self) -> Vec<String> {
        self.tables().iter().map(ToString::to_string).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios() {
    play_all(None).await;
}

/// The same, where one mark tells of the whole file system.
#[tokio::test(flavor = "multi_thread")]
async fn scenarios_by_fanotify() {
    if has_fanotify().await {
        play_all(Some("fanotify")).await;
    }
}

async fn play_all(backend: Option<&'static str>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/scenario");
    let mut runs = tokio::task::JoinSet::new();
    for entry in fs::read_dir(&folder).expect("the folder of scenarios") {
        runs.spawn(run(entry.expect("an entry").path(), backend));
    }
    assert!(!runs.is_empty(), "no scenarios in {}", folder.display());
    runs.join_all().await;
}

async fn run(origin: PathBuf, backend: Option<&str>) {
    let text = fs::read_to_string(&origin).expect("readable");
    let mut scenario: Scenario =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", origin.display()));
    let both = [Some(&mut scenario.source), scenario.edited.as_mut()].into_iter().flatten();
    for source in both.flat_map(Sources::tables) {
        if let Some(backend) = backend {
            source.entry("backend").or_insert_with(|| backend.into());
        }
    }
    let mut play =
        Play { world: World::of(&scenario.source.texts()), held: BTreeMap::new(), maps: BTreeMap::new() };
    let edited = scenario.edited.as_mut().map(Sources::texts);
    let name = origin.file_stem().expect("a name").display().to_string();
    for (number, step) in scenario.steps.iter().enumerate() {
        let _scene = Scene { name: &name, number, step };
        play.step(step, edited.as_deref()).await;
    }
}

/// Says where it was when a step panics.
struct Scene<'a> {
    name: &'a str,
    number: usize,
    step: &'a str,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}.toml, step {}: {}", self.name, self.number + 1, self.step);
        }
    }
}

struct Play {
    world: World,
    held: BTreeMap<String, File>,
    maps: BTreeMap<String, writers::Map>,
}

impl Play {
    async fn step(&mut self, step: &str, edited: Option<&[String]>) {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "start" => self.world.start().await,
            "stop" => self.world.stop().await,
            "lose-state" => {
                fs::remove_dir_all(self.world.state_folder()).expect("removed");
                fs::create_dir(self.world.state_folder()).expect("made");
            }
            "lose-memory" => fs::remove_file(self.world.state_folder().join("watch.db")).expect("removed"),
            "damage-memory" => damage(&self.world.state_folder().join("watch.db")),
            "acknowledge" => self.world.acknowledge().await,
            "forget" => self.world.forget_told(),
            "edit" => self.world.edit_all(edited.expect("an edited source")).await,
            "edit-unsound" => self.world.edit_unsound(edited.expect("an edited source")),
            "settled" => {
                let tracked = rest.parse::<u64>().expect("a number");
                self.world.state(|state| state.tracked >= tracked && state.settling == 0).await;
            }
            "problem" => self.problem(rest).await,
            "ended" => {
                let outcome = serde_json::from_value(rest.into()).expect("an outcome");
                self.world.settle(outcome).await;
            }
            "claimed" => self.claimed(rest.parse().expect("a number")).await,
            "link-claimed" => {
                let name = rest.rsplit('/').next().unwrap_or_default();
                fs::hard_link(self.claim(name), self.world.path(rest)).expect("linked");
            }
            "append-claimed" => {
                let (name, text) = rest.split_once(' ').expect("a name and a text");
                append(&self.claim(name)).write_all(text.as_bytes()).expect("appended");
            }
            "there" => self.there(rest, true).await,
            "away" => self.there(rest, false).await,
            "expect" => self.expect(rest).await,
            "in-order" => {
                let expected: Vec<&str> = rest.split("; ").collect();
                assert_eq!(self.world.told_in_order(expected.len()).await, expected);
            }
            _ => self.touch(verb, rest),
        }
    }

    async fn problem(&self, text: &str) {
        let shows = |problem: Option<&str>| match text {
            "" => problem.is_none(),
            _ => problem.is_some_and(|problem| problem.contains(text)),
        };
        self.world.state(|state| shows(state.problem.as_deref())).await;
    }

    /// Waits for a file to be there or not, which the watcher moves in its own time.
    async fn there(&self, path: &str, there: bool) {
        let path = self.world.path(path);
        until(|| path.exists() == there).await;
    }

    async fn claimed(&self, count: usize) {
        until(|| self.claims().len() == count).await;
    }

    fn claim(&self, name: &str) -> PathBuf {
        let mut claims = self.claims().into_iter();
        claims.find(|path| path.ends_with(name)).expect("it is claimed")
    }

    fn claims(&self) -> Vec<PathBuf> {
        files_below(&self.world.path("in/.hetuflow/claimed"))
    }

    async fn expect(&mut self, events: &str) {
        let mut expected: Vec<&str> = events.split("; ").collect();
        expected.sort_by_key(|event| event.split(' ').skip(1).find(|word| *word != "from"));
        let told = self.world.told(expected.len()).await;
        assert_eq!(told, expected);
    }

    fn touch(&mut self, verb: &str, rest: &str) {
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = self.world.path(first);
        match verb {
            "write" => self.world.write(first, second),
            "append" => append(&path).write_all(second.as_bytes()).expect("appended"),
            "hold" => {
                let mut file = File::create(&path).expect("made");
                file.write_all(second.as_bytes()).expect("written");
                self.held.insert(first.to_owned(), file);
            }
            "more" => {
                let file = self.held.get_mut(first).expect("a held file");
                file.write_all(second.as_bytes()).expect("written");
            }
            "close" => drop(self.held.remove(first).expect("a held file")),
            "mkdir" => fs::create_dir_all(path).expect("made"),
            "rename" => fs::rename(path, self.world.path(second)).expect("renamed"),
            "link" => fs::hard_link(path, self.world.path(second)).expect("linked"),
            "remove" if path.is_dir() => fs::remove_dir_all(path).expect("removed"),
            "remove" => fs::remove_file(path).expect("removed"),
            "old" => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                append(&path).set_modified(time).expect("time set");
            }
            "chmod" => fs::set_permissions(path, Permissions::from_mode(0o640)).expect("mode set"),
            _ => self.write_oddly(verb, first, second),
        }
    }

    /// As few programs write.
    fn write_oddly(&mut self, verb: &str, first: &str, second: &str) {
        let path = self.world.path(first);
        match verb {
            "nameless" => writers::nameless(&path, second.as_bytes()),
            "map" => {
                self.maps.insert(first.to_owned(), writers::Map::new(&path, second.as_bytes()));
            }
            "unmap" => drop(self.maps.remove(first).expect("a held mapping")),
            "allocate" => {
                let file = writers::allocate(&path, second.parse().expect("a length"));
                self.held.insert(first.to_owned(), file);
            }
            "fill" => self.held[first].write_all_at(second.as_bytes(), 0).expect("written"),
            "truncate" => writers::truncate(&path, second.parse().expect("a length")),
            "touch" => drop(append(&path)),
            "exchange" => writers::exchange(&path, &self.world.path(second)),
            "point" => std::os::unix::fs::symlink(second, path).expect("linked"),
            "soft" => std::os::unix::fs::symlink(path, self.world.path(second)).expect("linked"),
            _ => panic!("{verb} is no step"),
        }
    }
}

pub(crate) async fn until(comes_true: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !comes_true() {
        assert!(tokio::time::Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn damage(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).expect("opened");
    let half = file.metadata().expect("a length").len() / 2;
    file.write_all_at(&[0x5A; 512], half).expect("written");
    file.write_all_at(&[0x5A; 64], 4096).expect("written");
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).expect("opened")
}
