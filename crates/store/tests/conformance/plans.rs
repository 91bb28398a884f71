//! Nothing that SQLite is asked walks a table that grows. No statement has to be listed for that: after each promise all
//! that has come to SQLite is asked for its plan. By which index one goes is pinned in `src/sqlite/plans.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{self, Arc, LazyLock, PoisonError},
    thread,
};

use hetuflow_store::{Page, TaskFilter};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::Mutex;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
};

use crate::{
    database::on_sqlite,
    world::{at, stored},
};

const GROWING: [&str; 6] =
    ["sched_event", "sched_dedupe", "sched_task", "sched_attempt", "sched_task_output", "sched_fire"];

/// Indexes that hold what is live only: leases, wishes to cancel, ends that nobody was told of.
const LIVE: [&str; 3] = ["sched_task_leased", "sched_task_cancelling", "sched_task_ended"];

/// What may walk: by its beginning, with the reason. All of it must end at a limit, and may not sort what it found.
const MAY_WALK: [(&str, &str); 12] = [
    ("select id, namespace, kind, source, type, subject, time,", "a page of events, by their ids"),
    ("select id from sched_event where true", "how far one page of a filter may look"),
    ("select t.id, t.created_at, t.namespace, t.trigger_name,", "a page of tasks for people, by their ids"),
    ("select t.id, t.status, t.command is not null", "what people retry or cancel, in stretches, by ids"),
    (
        "select count(*) as tasks from (select 1 from sched_task t",
        "as many as somebody wants to have counted",
    ),
    ("select (page_count - freelist_count)", "the first row of each table"),
    ("delete from sched_event where id in (", "retention: the oldest first"),
    ("delete from sched_task where id in (", "likewise"),
    ("delete from sched_attempt where id in (", "likewise"),
    (
        "delete from sched_task_output where (instance_id, seq) in ( select o.instance_id, o.seq from sched_task_output o",
        "likewise",
    ),
    ("delete from sched_fire where (schedule_id, run_at) in (", "likewise, by their times"),
    ("delete from sched_dedupe where (namespace, scope, key) in (", "likewise, by their times"),
];

/// May sort besides: SQLite cannot merge the halves of that view by their ids. For people, and by task it is a search.
const MAY_SORT: &str = "select * from sched_task_instance where true";

const FILL: &str = include_str!("../../src/sqlite/fill.sql");
const MIGRATION: &str = include_str!("../../../../migrations/sqlite/0001_initial.sql");

/// Every text that a connection to SQLite was given, as sqlx logs it.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<sync::Mutex<BTreeSet<String>>>);

impl Recorder {
    fn texts(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // The promises of PostgreSQL may be kept in the same process.
        if thread::current().name().is_some_and(|name| name.starts_with("sqlx-sqlite")) {
            let mut logged = Logged::default();
            event.record(&mut logged);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(logged.text());
        }
    }
}

/// The text is in the summary alone if it is as short.
#[derive(Default)]
struct Logged {
    summary: String,
    statement: String,
}

impl Logged {
    fn text(self) -> String {
        if self.statement.is_empty() { self.summary } else { self.statement.trim().to_owned() }
    }
}

impl Visit for Logged {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// In force from the first promise on. The threads of SQLite's connections know no subscriber but that of the process.
static RECORDER: LazyLock<Recorder> = LazyLock::new(|| {
    let recorder = Recorder::default();
    let queries = Targets::new().with_target("sqlx::query", Level::DEBUG);
    let subscriber = tracing_subscriber::registry().with(recorder.clone().with_filter(queries));
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of these tests");
    recorder
});

/// Made once, because filling takes longer than most promises.
static PLANNER: Mutex<Option<Planner>> = Mutex::const_new(None);

struct Planner {
    /// One with an empty database, a full one, and one that was analysed when it was full.
    connections: Vec<SqliteConnection>,
    /// A statement fails one promise, not all that come after it.
    judged: BTreeSet<String>,
}

pub(crate) fn record() {
    LazyLock::force(&RECORDER);
}

/// Asks for the plans of what has been recorded: what this promise ran, and maybe some of what others are running.
pub(crate) async fn check() {
    let texts = RECORDER.texts();
    let mut planner = PLANNER.lock().await;
    if planner.is_none() {
        *planner = Some(Planner::new(&texts).await);
    }
    let walks = planner.as_mut().expect("just made").walks(&texts).await;
    drop(planner);
    assert!(walks.is_empty(), "SQLite walks a table that grows:\n\n{}", walks.join("\n\n"));
}

/// What a script, a list and a statement by itself look like: were they not seen, nothing would be checked.
#[tokio::test]
async fn statements_of_every_kind_are_recorded() {
    on_sqlite(async |db| {
        stored(&*db.store, at(0), |_| ()).await;
        db.store.tasks(&TaskFilter::default(), Page { before: None, limit: 10 }).await.expect("tasks");
        db.store.cancel_requests().await.expect("none");
    })
    .await;
    let texts = RECORDER.texts();
    let found = statements(&texts);
    for part in ["into sched_event", "order by t.id desc limit", "sched_task_cancelling"] {
        assert!(found.iter().any(|statement| statement.contains(part)), "{part}: {found:?}");
    }
}

impl Planner {
    async fn new(texts: &BTreeSet<String>) -> Self {
        let mut connections = Vec::new();
        for steps in [&[MIGRATION][..], &[MIGRATION, FILL], &[MIGRATION, FILL, "analyze"]] {
            let memory = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
            let mut connection = memory.connect().await.expect("a database");
            // The table of migrations is in none of them.
            let made = texts.iter().map(String::as_str).filter(|text| text.starts_with("create table"));
            for step in made.chain(steps.iter().copied()) {
                sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut connection).await.expect("made and filled");
            }
            connections.push(connection);
        }
        Self { connections, judged: BTreeSet::new() }
    }

    async fn walks(&mut self, texts: &BTreeSet<String>) -> Vec<String> {
        let mut walks = Vec::new();
        for statement in statements(texts) {
            if !self.judged.insert(statement.to_owned()) {
                continue;
            }
            for connection in &mut self.connections {
                walks.extend(walk(connection, statement).await);
            }
        }
        walks.dedup();
        walks
    }
}

/// Scripts are taken apart; what is not planned is left out.
fn statements(texts: &BTreeSet<String>) -> BTreeSet<&str> {
    let texts = texts.iter().filter(|text| text.trim() != MIGRATION.trim());
    let statements = texts.flat_map(|text| text.split(';')).map(str::trim);
    let planned = ["select", "insert", "update", "delete", "with"];
    statements.filter(|statement| planned.iter().any(|word| statement.starts_with(word))).collect()
}

/// The statement with its plan, if it walks.
async fn walk(connection: &mut SqliteConnection, statement: &str) -> Option<String> {
    let plan = sqlx::query(AssertSqlSafe(format!("explain query plan {statement}")))
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("no plan of {statement}: {error}"));
    let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
    let names = names(statement);
    let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY"));
    let known = MAY_WALK.iter().any(|(beginning, _)| statement.starts_with(beginning));
    let may = statement.contains(" limit ") && (known && !sorts || statement.starts_with(MAY_SORT));
    let walks = steps.iter().any(|step| is_walk(step, &names));
    (walks && !may).then(|| format!("{statement}\n    {}", steps.join("\n    ")))
}

/// From end to end, or from one end to a place that time moves away from it.
fn is_walk(step: &str, names: &BTreeMap<&str, &str>) -> bool {
    let mut words = step.split(' ');
    let (how, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let bounded = step.contains('=') || step.matches('?').count() > 1;
    let whole = how == "SCAN" || how == "SEARCH" && !bounded;
    whole && names.contains_key(name) && !LIVE.iter().any(|index| words.clone().any(|word| word == *index))
}

/// What the statement may call the tables that grow.
fn names(statement: &str) -> BTreeMap<&str, &str> {
    let mut names: BTreeMap<&str, &str> = GROWING.iter().map(|table| (*table, *table)).collect();
    let words =
        statement.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| *word != "as");
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2).filter(|pair| GROWING.contains(&pair[0])) {
        names.insert(pair[1], pair[0]);
    }
    names
}
